"""Progress as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metaloop import checkpoint, disk, tree
from metaloop.experiment import Experiment, Progress
from metaloop.outcome import Carry
from metaloop.skeleton import Live, is_live, revive


def save_progress(folder: Path, progress: Progress) -> Path:
    """Write a checkpoint of everything but the outcome.

    Raises:
        TypeError: there is a live object outside of a learner's state, so nobody could make it again.
    """
    progress = progress._replace(outcome=None)
    for name, part in progress._asdict().items():
        for leaf in tree.leaves(part, _is_carry):
            if is_live(leaf):
                kind = type(leaf).__name__
                raise TypeError(f"{name} holds a live {kind}, which only a learner's state may: keep its state_dict()")
    return checkpoint.save(folder, progress.step, progress)


def load_progress(folder: Path, experiment: Experiment) -> Progress | None:
    """The newest sound checkpoint, on the experiment's device; None where there is none.

    Live objects in the learner's state are begun anew and told their state.
    """
    found = checkpoint.load(folder, device=experiment.torch_device)
    if found is None:
        return None
    progress: Progress = found[1]

    def revived(part: Any) -> Any:
        if not _is_carry(part) or not any(map(_is_stored, tree.leaves(part.state, _is_stored))):
            return part
        twin = experiment.learner.begin(progress.theta, part.draw.tasks, part.keys.fold("begin"))
        return part._replace(state=revive(part.state, twin))

    with torch.no_grad(), experiment.scope():
        return tree.tree_map(revived, progress, is_leaf=_is_carry)


def save_theta(path: Path, theta: Any) -> None:
    """Write a theta of tensors as a safetensors file, named as they are in theta; other thetas and `{}` leave none."""
    if isinstance(theta, Mapping) and theta and all(isinstance(leaf, torch.Tensor) for leaf in theta.values()):
        import safetensors.torch

        tensors = {name: leaf.detach().contiguous() for name, leaf in theta.items()}
        disk.replace(path, safetensors.torch.save(tensors))


def _is_carry(part: object) -> bool:
    return isinstance(part, Carry)


def _is_stored(leaf: object) -> bool:
    return isinstance(leaf, Live)
