"""What every relation of a claim has: a statistic, its interval and the verdict that follows from it.

A relation holds when the whole 95% interval of its statistic lies in the relation's region, fails when the whole
interval lies outside, and is inconclusive otherwise. Below `MIN_UNITS` resampled units only an identity gets a verdict.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from metaloop.claims.sample import MIN_UNITS, Interval, Judgement, Sample, Verdict


class Undefined(ValueError):  # noqa: N818 (reads as what it is)
    """The statistic does not exist for this sample; the message says why."""


@dataclass(frozen=True)
class Region:
    """The values from `low` to `high` that satisfy a relation; `closed` says whether the ends do."""

    low: float = -math.inf
    high: float = math.inf
    closed: bool = False

    def __str__(self) -> str:
        equal = "=" if self.closed else ""
        if math.isinf(self.high):
            return f">{equal} {self.low:g}"
        if math.isinf(self.low):
            return f"<{equal} {self.high:g}"
        return f"in [{self.low:g}, {self.high:g}]"

    def holds(self, low: float, high: float) -> bool:
        """Whether every value from `low` to `high` is in the region."""
        return self.low <= low and high <= self.high if self.closed else self.low < low and high < self.high

    def excludes(self, low: float, high: float) -> bool:
        """Whether no value from `low` to `high` is in the region."""
        return high < self.low or self.high < low if self.closed else high <= self.low or self.high <= low


@dataclass(frozen=True)
class Relation(ABC):
    """What a claim says about its statistic."""

    exact: ClassVar[bool] = False
    """Whether it is an identity, which needs no interval and so holds or fails at any n."""

    @abstractmethod
    def estimate(self, sample: Sample) -> float:
        """The statistic's value."""

    @abstractmethod
    def interval(self, sample: Sample, seed: int = 0) -> Interval:
        """The statistic's 95% interval; `seed` is the bootstrap's."""

    def describe(self) -> str:
        """The relation as a formula, for example `"treatment - baseline > 0.05"`."""
        return f"{self._statistic()} {self._region()}"

    def verdict(self, sample: Sample, seed: int = 0) -> Judgement:
        """Judge the sample; a value that is not finite never helps a claim.

        Raises `UserError` for a sample that this relation can't be asked about.
        """
        self._check(sample)
        judgement = self._judge(sample, seed)
        if self.exact or sample.n >= MIN_UNITS:
            return judgement
        return judgement.withheld(f"n = {sample.n}: below {MIN_UNITS} only an identity gets a verdict")

    @abstractmethod
    def _statistic(self) -> str: ...

    @abstractmethod
    def _region(self) -> Region: ...

    @abstractmethod
    def _check(self, sample: Sample) -> None: ...

    def _judge(self, sample: Sample, seed: int) -> Judgement:
        # A treatment without a value can't have what the claim says; a baseline without one compares with nothing.
        if bad := sample.not_finite("treatment"):
            return Judgement("fails", f"{bad} of {sample.n} treatment values are not finite", sample.n)
        if bad := sample.not_finite("baseline"):
            return Judgement("inconclusive", f"{bad} of {sample.n} baseline values are not finite", sample.n)
        try:
            estimate, interval = self.estimate(sample), self.interval(sample, seed)
        except Undefined as undefined:
            return Judgement("inconclusive", str(undefined), sample.n)
        verdict, reason = self._decide(interval)
        return Judgement(verdict, reason, sample.n, estimate, interval.low, interval.high, interval.method)

    def _decide(self, interval: Interval) -> tuple[Verdict, str]:
        whole = f"{self._statistic()} is" if self.exact else "the whole interval is"
        region = self._region()
        if region.holds(interval.low, interval.high):
            return "holds", f"{whole} {region}"
        if region.excludes(interval.low, interval.high):
            return "fails", f"{whole} not {region}"
        return "inconclusive", f"only part of the interval is {region}"
