"""Checkpoints that describe themselves: a JSON skeleton and a safetensors file in one folder, put there by one rename.

    checkpoints/000100/{tree.json, tensors.safetensors}
    checkpoints/000120/...

A checkpoint is written aside, flushed and renamed, so a process killed at any moment leaves every earlier one whole.
Both files are hashed: a damaged checkpoint is noticed and the one before it is used. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop import disk
from metaloop.errors import CorruptCheckpoint, UserError

if TYPE_CHECKING:
    import torch

FORMAT = 1
_TREE = "tree.json"
_TENSORS = "tensors.safetensors"
_NAME = re.compile(r"(\d{6,})(-old)?")
# tree.json is one JSON object; its bytes are fixed, so that the hash covers each of them.
_SEALED = re.compile(rb'\{"sha256":"([0-9a-f]{64})","checkpoint":(.*)\}\n', re.DOTALL)


def save(folder: Path, step: int, tree: Any, *, keep: int = 2) -> Path:
    """Write the checkpoint of a step, then remove all but the last `keep`.

    Checkpoints of later steps, left by a run that was taken back to an earlier one, are removed as well.

    Args:
        folder: where checkpoints are; made when missing. One process at a time may save there.
        step: at least 0; a checkpoint of the same step is replaced.
        tree: dicts, lists, tuples, NamedTuples, text, numbers, None, tensors (without `requires_grad`), keys, and live
            objects with `state_dict` and `load_state_dict`.
        keep: how many checkpoints stay, at least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: something in the tree can't be stored; the message says where it is.
        OSError: the disk is full or the like; earlier checkpoints are as they were.
    """
    import safetensors.torch

    from metaloop.skeleton import encode

    if step < 0 or keep < 1:
        raise ValueError(f"save needs step >= 0 and keep >= 1, got {step} and {keep}")
    skeleton, tensors = encode(tree)
    data = safetensors.torch.save(tensors)
    del tensors
    content = {"format": FORMAT, "step": step, "tensors": hashlib.sha256(data).hexdigest(), "skeleton": skeleton}
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in [*folder.glob("writing-*"), *folder.glob("removing-*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    target, old = folder / f"{step:06d}", folder / f"{step:06d}-old"
    writing = folder / f"writing-{os.getpid()}"
    try:
        disk.call(os.mkdir, writing)
        disk.write(writing / _TENSORS, data)
        disk.write(writing / _TREE, _seal(content))
        disk.sync_folder(writing)
        if target.exists():  # it stays readable under its other name until the new one is in place
            if old.exists():
                discard(old)
            disk.call(os.rename, target, old)
        disk.call(os.rename, writing, target)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    disk.sync_folder(folder)
    kept = [path for path in stored(folder) if not path.name.endswith("-old") and _step(path) <= step][:keep]
    with suppress(OSError):  # the checkpoint is safe; what could not be removed goes next time
        for path in stored(folder):
            if path not in kept:
                discard(path)
    return target


def load(folder: Path, *, device: torch.device | str = "cpu") -> tuple[int, Any] | None:
    """The step and tree of the newest sound checkpoint, or None where there is none.

    A damaged checkpoint is warned about and the one before it is used.

    Args:
        folder: where checkpoints are.
        device: where tensors and keys go. A live object comes back as a `metaloop.skeleton.Live`; see `revive` there.

    Raises:
        CorruptCheckpoint: there are checkpoints, and all are damaged.
        UserError: a checkpoint needs a class that isn't loaded, or a newer metaloop.
    """
    paths = stored(folder)
    for path in paths:
        try:
            return read(path, device=device)
        except CorruptCheckpoint as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if paths:
        raise CorruptCheckpoint(f"every checkpoint in {folder} is damaged: {', '.join(path.name for path in paths)}")
    return None


def read(path: Path, *, device: torch.device | str = "cpu") -> tuple[int, Any]:
    """The step and tree of one checkpoint, given its own folder; arguments and errors as for `load`.

    Raises:
        CorruptCheckpoint: a file is missing, cut short or altered.
    """
    from metaloop.skeleton import decode

    try:
        content, tensors = _files(path)
        tree = decode(content["skeleton"], tensors, device=device)
    except CorruptCheckpoint as error:
        raise CorruptCheckpoint(f"the checkpoint {path} is damaged: {error}") from error
    return content["step"], tree


def stored(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first, by their names alone."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: (_step(path), not path.name.endswith("-old")), reverse=True)


def newest(folder: Path) -> int | None:
    """The step of the newest checkpoint by its name, or None where there is none."""
    paths = stored(folder)
    return _step(paths[0]) if paths else None


def discard(path: Path) -> None:
    """Remove a checkpoint; a process killed meanwhile leaves it whole or gone."""
    aside = path.with_name(f"removing-{path.name}")
    disk.call(os.rename, path, aside)
    disk.call(shutil.rmtree, aside)


def _step(path: Path) -> int:
    return int(path.name.removesuffix("-old"))


def _files(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What the two files of a checkpoint hold, once their hashes agree."""
    import safetensors.torch

    try:
        content = _unseal((path / _TREE).read_bytes())
        if content["format"] != FORMAT:
            raise UserError(f"{path} has the checkpoint format {content['format']}: use the metaloop that wrote it")
        data = (path / _TENSORS).read_bytes()
        if hashlib.sha256(data).hexdigest() != content["tensors"]:
            raise CorruptCheckpoint(f"{_TENSORS} is not what was written")
        return content, safetensors.torch.load(data)
    except (OSError, safetensors.SafetensorError) as error:
        raise CorruptCheckpoint(str(error)) from error


def _seal(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b'{"sha256":"%s","checkpoint":%s}\n' % (hashlib.sha256(text).hexdigest().encode(), text)


def _unseal(data: bytes) -> dict[str, Any]:
    match = _SEALED.fullmatch(data)
    if match is None or hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise CorruptCheckpoint(f"{_TREE} is not what was written")
    try:
        content = json.loads(match[2])
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{_TREE} is not JSON: {error}") from error
    if not isinstance(content, dict) or not {"format", "tensors", "skeleton"} <= content.keys():
        raise CorruptCheckpoint(f"{_TREE} is not a checkpoint's")
    if type(content.get("step")) is not int:
        raise CorruptCheckpoint(f"{_TREE} names no step")
    return content
