"""Progress as a checkpoint: live objects in a learner's state are stored by their `state_dict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from metaloop import checkpoint, tree
from metaloop.experiment import Experiment, Progress
from metaloop.outcome import Budget, Carry


class LiveState(NamedTuple):
    """What is stored in place of a live object."""

    state: Any


def save_progress(folder: Path, progress: Progress) -> Path:
    """Write a checkpoint of everything but the outcome."""
    saved = progress._replace(outcome=None)
    if isinstance(progress.carry, Carry):
        saved = saved._replace(carry=progress.carry._replace(state=tree.tree_map(_frozen, progress.carry.state)))
    return checkpoint.save(folder, progress.step, saved)


def load_progress(folder: Path, experiment: Experiment) -> Progress | None:
    """The newest sound checkpoint, on the experiment's device; None where there is none."""
    found = checkpoint.load(folder, device=experiment.torch_device)
    if found is None:
        return None
    progress: Progress = found[1]
    progress = progress._replace(spent=Budget(*progress.spent))
    if isinstance(progress.carry, Carry) and _has_live(progress.carry.state):
        progress = progress._replace(carry=_revived(experiment, progress))
    return progress


def _revived(experiment: Experiment, progress: Progress) -> Carry[Any, Any]:
    """Live objects are begun anew and told their state."""
    carry = progress.carry
    with torch.no_grad(), experiment.scope():
        twin = experiment.learner.begin(progress.theta, carry.draw.tasks, carry.keys.fold("begin"))
    state = tree.tree_map(_told, carry.state, twin, is_leaf=_is_live)
    return Carry(carry.draw, state, carry.clock, carry.keys)


def _told(saved: Any, twin: Any) -> Any:
    if not _is_live(saved):
        return saved
    twin.load_state_dict(saved.state)
    return twin


def _frozen(leaf: Any) -> Any:
    return LiveState(leaf.state_dict()) if hasattr(leaf, "load_state_dict") else leaf


def _has_live(state: Any) -> bool:
    found = tree.leaves(state, is_leaf=_is_live)
    return any(_is_live(leaf) for leaf in found)


def _is_live(leaf: Any) -> bool:
    return isinstance(leaf, LiveState)
