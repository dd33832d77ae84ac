"""Closing numbers: flattened, and averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

COUNTS = ("steps", "seconds", "first_step_seconds", "evaluations", "inner_steps", "peak_memory_bytes")
"""The numbers of a summary that say what a run cost, not how it went."""


class Mean(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    low: float | None
    """None where there is no interval: a single value, or one that is not finite."""
    high: float | None
    n: int


def interval(values: Sequence[float]) -> Mean:
    """The mean of independent values, at least one, and Student's 95% interval."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2 or not math.isfinite(mean):
        return Mean(mean, None, None, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return Mean(mean, mean - half, mean + half, n)


def numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The plain numbers in a summary; those inside mappings under `outer.inner`."""
    for name, value in summary.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def is_count(name: str) -> bool:
    """Whether a number, by its flattened name, says what a run cost."""
    return name.rpartition(".")[2] in COUNTS
