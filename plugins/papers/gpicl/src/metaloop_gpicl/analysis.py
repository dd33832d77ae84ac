"""Accuracy against the number of examples in context, and which kind of algorithm has been learned (section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from metaloop import Episode, Key, Result, tree
from metaloop.claims.statistics import mean_interval
from torch import Tensor

from metaloop_gpicl.data import Bundled
from metaloop_gpicl.peers import Judge
from metaloop_gpicl.projection import BiasedTasks, RandomProjectionTasks

ELSEWHERE = ("wine", "breast_cancer", "iris")
"""Data sets that nothing is meta-trained on."""
SIZES = (1, 2, 5, 10, 20, 40, 60, 99)
"""Examples in context at which learning curves are read off, as far as contexts go."""

Algorithm = Literal["general learning", "task identification", "memorisation", "none"]


class Estimate(NamedTuple):
    """A mean over tasks with its 95% interval."""

    mean: float
    low: float
    high: float


def estimate(values: Tensor) -> Estimate:
    """The mean of one value per task."""
    found = values.double().cpu().numpy()
    if len(found) < 2 or np.ptp(found) == 0:
        return Estimate(*3 * [float(found.mean())])
    bounds = mean_interval(found, resamples=999)
    return Estimate(float(found.mean()), float(bounds.low), float(bounds.high))


def plain(family: Any) -> RandomProjectionTasks:
    """The family itself, without bias and with whole contexts: on which a learner is judged."""
    inner = family.tasks if isinstance(family, BiasedTasks) else family
    assert isinstance(inner, RandomProjectionTasks)
    return inner.but(vary=False)


def unseen(family: Any) -> RandomProjectionTasks:
    """Other tasks, made from images that are held out."""
    seen = plain(family)
    return seen.but(data=seen.data.but(part="held-out"), seed=seen.seed + 1, n_tasks=None)


def elsewhere(family: Any, name: str) -> RandomProjectionTasks:
    """Tasks from a data set that was not trained on, as wide."""
    seen = plain(family)
    return seen.but(data=Bundled(name=name), width=seen.inputs, seed=seen.seed + 1, n_tasks=None)


def first(tasks: Episode, n: int) -> Episode:
    """The same tasks with the first `n` examples of each context."""
    return tasks._replace(support_x=tasks.support_x[:, :n], support_y=tasks.support_y[:, :n])


def sizes_of(family: RandomProjectionTasks) -> list[int]:
    """`SIZES` up to the context's, which is the last."""
    return [*(size for size in SIZES if size < family.shots), family.shots]


def curve(judge: Judge, tasks: Episode, sizes: Sequence[int]) -> list[Estimate]:
    """Accuracy after each number of examples, on the same tasks and queries."""
    return [estimate(judge(first(tasks, size))) for size in sizes]


class Improvement(NamedTuple):
    """Accuracy with the first example alone and with the whole context."""

    first: float
    last: float

    @property
    def gain(self) -> float:
        """What was learned in context."""
        return self.last - self.first


def improvement(judge: Judge, tasks: Episode) -> Improvement:
    """How much a learner improves in context."""
    return Improvement(float(judge(first(tasks, 1)).mean()), float(judge(tasks).mean()))


def algorithm(seen: Improvement, new: Improvement, chance: float, margin: float = 0.1) -> Algorithm:
    """What was learned: improving on unseen tasks is general learning, on seen ones alone task identification.

    Knowing seen tasks from the first example on, without improving anywhere, is memorisation.
    """
    if new.gain > margin:
        return "general learning"
    if seen.gain > margin:
        return "task identification"
    return "memorisation" if seen.last > chance + margin else "none"


def plateau(history: Sequence[Mapping[str, Any]], level: float) -> int | None:
    """The first step at which the loss on held-out tasks was below a level; None if it never was."""
    return next((row["step"] for row in history if row.get("eval/loss", np.inf) < level), None)


def few(tasks: Episode, n: int) -> Episode:
    """The first `n` tasks."""
    return tree.index(tasks, slice(0, n))


def training_curve(result: Result, name: str = "eval/accuracy") -> tuple[list[int], list[float]]:
    """Steps and values of what was measured on the way."""
    rows = [row for row in result.history if name in row]
    return [row["step"] for row in rows], [row[name] for row in rows]


def draw(family: RandomProjectionTasks, n: int, key: Key) -> Episode:
    """Tasks to judge on."""
    with torch.no_grad():
        return family.sample({}, n, key).tasks
