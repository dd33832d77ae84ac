"""Progress as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from metaloop import checkpoint, tree
from metaloop.experiment import Experiment, Progress
from metaloop.outcome import Carry
from metaloop.skeleton import Live, revive


def save_progress(folder: Path, progress: Progress) -> Path:
    """Write a checkpoint of everything but the outcome."""
    return checkpoint.save(folder, progress.step, progress._replace(outcome=None))


def load_progress(folder: Path, experiment: Experiment) -> Progress | None:
    """The newest sound checkpoint, on the experiment's device; None where there is none.

    Live objects in the learner's state are begun anew and told their state.
    """
    found = checkpoint.load(folder, device=experiment.torch_device)
    if found is None:
        return None
    progress: Progress = found[1]
    carry = progress.carry
    if isinstance(carry, Carry) and any(isinstance(leaf, Live) for leaf in tree.leaves(carry.state, _is_live)):
        with torch.no_grad(), experiment.scope():
            twin = experiment.learner.begin(progress.theta, carry.draw.tasks, carry.keys.fold("begin"))
        progress = progress._replace(carry=carry._replace(state=revive(carry.state, twin)))
    return progress


def _is_live(leaf: object) -> bool:
    return isinstance(leaf, Live)
