"""What a measure returns and how it was judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from metaloop.errors import UserError

MIN_UNITS = 5
"""Fewer seeds (or other resampled units) than this give no verdict, except on an identity."""

Verdict = Literal["holds", "fails", "inconclusive", "broke"]


@dataclass(frozen=True)
class Sample:
    """One value per seed (or other unit) of the treatment and, where there is one, of the baseline.

    Treatment i and baseline i are a pair: they share what they can (seed, tasks). Any iterable of numbers is taken (a
    tensor by `.tolist()`) and kept as a tuple of floats. For a `Rate` the treatment is 0 or 1
    per unit; for a `RankCorrelation` the treatment is x and the baseline is y.
    """

    treatment: Sequence[float]
    baseline: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "treatment", _floats(self.treatment))
        if not self.treatment:
            raise UserError("a claim's Sample needs at least one treatment value, got none")
        if self.baseline is None:
            return
        object.__setattr__(self, "baseline", _floats(self.baseline))
        if len(self.baseline) != len(self.treatment):
            raise UserError(
                "a claim's Sample pairs treatment and baseline: "
                f"got {len(self.treatment)} treatment values and {len(self.baseline)} baseline values"
            )

    @property
    def n(self) -> int:
        """How many units were measured."""
        return len(self.treatment)

    def not_finite(self, side: Literal["treatment", "baseline"]) -> int:
        """How many values of a side are NaN or infinite."""
        values: Sequence[float] | None = getattr(self, side)
        return sum(not math.isfinite(value) for value in values or ())


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval and the test or bootstrap that gave it."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Judgement:
    """A relation's verdict on a sample; estimate and interval are None where they are undefined."""

    verdict: Verdict
    reason: str
    n: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""

    def withheld(self, why: str) -> Judgement:
        """The same numbers without a verdict."""
        return replace(self, verdict="inconclusive", reason=f"{why} ({self.reason})")


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
