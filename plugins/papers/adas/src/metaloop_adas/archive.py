"""The archive: every agent so far with its score, and the interval that the meta agent is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np


class Agent(TypedDict):
    """An agent: theta."""

    name: str
    thought: str
    """What its designer was after."""
    code: str
    """The source of one function, `forward(self, taskInfo)`."""
    blocks: list[Any] | None
    """What it is made of (`Block.to_json`), where it is known."""


class Fitness(TypedDict):
    """A bootstrap of per-question scores."""

    median: float
    low: float
    high: float
    """The ends of the 95% interval."""


class Entry(TypedDict):
    """An agent in the archive."""

    agent: Agent
    generation: int
    """0 for hand-designed ones."""
    parents: list[int]
    """Rows of the archive that it was made from, where that is known."""
    scores: list[float]
    """Of each validation question."""
    fitness: Fitness
    calls: float
    """Calls of the foundation model for a question, on average."""
    empty: float
    """Those that came back with nothing."""


def bootstrap(scores: Sequence[float], samples: int, rng: np.random.Generator) -> Fitness:
    """Median and 95% interval of the mean of resampled scores (paper: 100 000 samples).

    Scores that are equal are drawn together, by multinomial counts, so the cost is that of the distinct values.
    """
    values, counts = np.unique(np.asarray(scores, np.float64), return_counts=True)
    drawn = rng.multinomial(len(scores), counts / len(scores), size=samples) @ values / len(scores)  # [sample]
    low, median, high = np.quantile(drawn, [0.025, 0.5, 0.975])
    return Fitness(median=float(median), low=float(low), high=float(high))


def told(fitness: Fitness) -> str:
    """An interval as the meta agent reads it."""
    interval = f"({100 * fitness['low']:.1f}%, {100 * fitness['high']:.1f}%)"
    return f"95% Bootstrap Confidence Interval: {interval}, Median: {100 * fitness['median']:.1f}%"


def mean(entry: Entry) -> float:
    """The validation accuracy."""
    return sum(entry["scores"]) / len(entry["scores"])


def best(archive: Sequence[Entry]) -> int:
    """The row with the highest validation accuracy; of equal ones the earliest."""
    return max(range(len(archive)), key=lambda i: (mean(archive[i]), -i))
