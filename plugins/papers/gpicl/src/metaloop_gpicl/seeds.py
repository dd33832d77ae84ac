"""Trainings that claims need, spread over two processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from metaloop import Experiment, InProcess, ProcessPool
from torch import Tensor

Theta = dict[str, Tensor]


class Trained(NamedTuple):
    """What a training ended with."""

    theta: Theta
    steps: int
    """Where it ended: at the experiment's end, or once the loss on held-out tasks was below what was asked for."""


def train(experiment: Experiment, below: float | None = None) -> Trained:
    """A training without a run: nothing is written.

    Args:
        experiment: with `eval_every`, where `below` is given.
        below: stop once the loss on evaluation tasks is.
    """
    progress = experiment.begin()
    while not experiment.ended(progress):
        progress = experiment.advance(progress)
        every = experiment.eval_every
        looks = below is not None and every is not None and progress.step % every == 0
        if looks and float(experiment.evaluate(progress.theta).loss.mean()) < (below or 0.0):
            break
    return Trained(progress.theta, progress.step)


def train_all(
    experiments: Sequence[Experiment], *, below: float | None = None, on_progress: Callable[[float], None] | None = None
) -> list[Trained]:
    """Trainings in order, on the CPU in as many processes as there are processors (two at most)."""
    workers = min(2, os.cpu_count() or 1, len(experiments))
    alone = workers == 1 or sum(e.total_steps * e.batch for e in experiments) < WORTH_A_PROCESS
    on_cpu = all(experiment.torch_device.type == "cpu" for experiment in experiments)
    executor = InProcess() if alone or not on_cpu else ProcessPool(workers=workers)
    found: dict[int, Trained] = {}
    for position, trained in executor.map(partial(train, below=below), experiments):
        found[position] = trained
        if on_progress is not None:
            on_progress(len(found) / len(experiments))
    return [found[i] for i in range(len(experiments))]


WORTH_A_PROCESS = 20_000
"""Tasks met in all trainings together, below which starting processes takes longer than it saves."""
