"""How much disk runs use, and how to free it."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from metaloop import checkpoint, disk
from metaloop.errors import UserError
from metaloop.store import MAKING, REMOVING, Run, list_runs, runs_root

_LEFTOVER_SECONDS = 3600.0  # a folder that is being made is young


@dataclass
class Pruned:
    """What pruning removed, or would remove."""

    runs: list[Run] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    """Folders that killed processes left behind."""
    freed: int = 0
    """Bytes."""


def disk_use(run: Run) -> int:
    """Bytes in the run's files, children included."""
    return _size(run.path)


def remove(run: Run) -> None:
    """Remove a run and the runs inside it.

    Raises:
        UserError: a process uses one of them, or the folder can't be removed.
    """
    for part in _family(run):
        if part.in_use:
            raise UserError(f"run {part.id} is in use by another process: wait for it to end, or stop it")
    aside = run.path.with_name(f"{REMOVING}{run.path.name}-{secrets.token_hex(4)}")
    try:
        disk.call(os.rename, run.path, aside)
        disk.call(shutil.rmtree, aside)
    except OSError as error:
        raise UserError(f"run {run.id} can't be removed: {error}") from error


def prune(root: Path | None = None, *, keep_last: int = 10, dry: bool = False) -> Pruned:
    """Free disk without losing a result.

    Removed are: runs that ended early and hold no checkpoint, result or artifact, except the newest `keep_last` runs;
    all checkpoints but the newest of finished runs; and what killed processes left behind. Runs in use are untouched.

    Args:
        root: where runs are kept, by default `runs_root()`.
        keep_last: how many of the newest runs are never removed.
        dry: say what would be removed, and remove nothing.
    """
    root = (root or runs_root()).absolute()
    pruned = Pruned()
    for i, run in enumerate(list_runs(root)):
        family = list(_family(run))
        if any(part.in_use for part in family):
            continue
        if i >= keep_last and not any(_worth_keeping(part) for part in family):
            pruned.runs.append(run)
            continue
        for part in family:
            if part.status == "finished":
                pruned.checkpoints += checkpoint.stored(part.path / "checkpoints")[1:]
    pruned.leftovers = [path for pattern in (MAKING, REMOVING) for path in _leftovers(root, pattern)]
    pruned.freed = sum(map(disk_use, pruned.runs)) + sum(map(_size, pruned.checkpoints + pruned.leftovers))
    if not dry:
        for run in pruned.runs:
            remove(run)
        for path in pruned.checkpoints:
            checkpoint.discard(path)
        for path in pruned.leftovers:
            shutil.rmtree(path, ignore_errors=True)
    return pruned


def _family(run: Run) -> Iterator[Run]:
    """The run and all runs inside it."""
    yield run
    for child in run.children():
        yield from _family(child)


def _worth_keeping(run: Run) -> bool:
    """True where there is something to read or to resume."""
    ended = run.status == "finished" or (run.path / "result.json").exists()
    return ended or bool(run.artifacts()) or checkpoint.newest(run.path / "checkpoints") is not None


def _leftovers(root: Path, beginning: str) -> list[Path]:
    old = time.time() - _LEFTOVER_SECONDS
    found = [*root.glob(f"{beginning}*"), *root.glob(f"*/children/{beginning}*")]
    return [path for path in found if path.stat().st_mtime < old]


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a run in progress renames and removes files
            total += 0 if path.is_dir() else path.lstat().st_size
    return total
