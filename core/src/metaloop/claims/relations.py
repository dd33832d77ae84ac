"""The relations that a claim can assert about its sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from metaloop.claims import statistics
from metaloop.claims.relation import Region, Relation, Undefined
from metaloop.claims.sample import Interval, Sample
from metaloop.claims.statistics import Array, Bounds
from metaloop.errors import UserError


@dataclass(frozen=True)
class _OfMeans(Relation):
    """A relation about a mean difference, a ratio of means, or the mean of the treatment alone."""

    ratio: bool = field(default=False, kw_only=True)

    def estimate(self, sample: Sample) -> float:
        """The mean of treatment - baseline, the ratio of their means, or the treatment's mean."""
        t, b = _arrays(sample)
        if b is None:
            return float(t.mean())
        if not self.ratio:
            return float((t - b).mean())
        if b.min() <= 0:
            raise Undefined("a ratio needs a baseline above 0 in every unit")
        return float(t.mean() / b.mean())

    def interval(self, sample: Sample, seed: int = 0) -> Interval:
        """The wider of the paired BCa bootstrap and Student's t (for a ratio: Fieller's)."""
        estimate = self.estimate(sample)
        if sample.n < 2:
            return Interval(-math.inf, math.inf, "none: one value has no interval")
        t, b = _arrays(sample)
        fitted = estimate if b is None else estimate * b if self.ratio else estimate + b
        scale = max(np.abs(t).max(), np.abs(fitted).max())
        if np.abs(t - fitted).max() <= 16 * np.finfo(np.float64).eps * scale:
            return Interval(estimate, estimate, "none: no variation between units (does the seed reach the measure?)")
        if b is not None and self.ratio:
            return _scalars(statistics.ratio_interval(t, b, seed))
        return _scalars(statistics.mean_interval(t if b is None else t - b, seed))


@dataclass(frozen=True)
class _OneSided(_OfMeans):
    """Treatment against the baseline by a margin or a factor, or against the constant `than`."""

    margin: float = 0.0
    than: float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.ratio and self.margin <= 0:
            raise UserError(f"{name}(ratio=True) needs margin > 0, the bound on treatment / baseline (1 is equality)")
        if self.than is not None and (self.ratio or self.margin):
            raise UserError(f"{name}(than=...) compares with a constant: leave out margin and ratio")

    def _statistic(self) -> str:
        if self.than is not None:
            return "treatment"
        return "treatment / baseline" if self.ratio else "treatment - baseline"

    def _check(self, sample: Sample) -> None:
        name = type(self).__name__
        if self.than is None and sample.baseline is None:
            raise UserError(f"{name} compares with a baseline: give Sample.baseline, or {name}(than=...)")
        if self.than is not None and sample.baseline is not None:
            raise UserError(f"{name}(than=...) compares with a constant: leave out Sample.baseline")


@dataclass(frozen=True)
class Greater(_OneSided):
    """treatment - baseline > margin; with `ratio`, treatment / baseline > margin; with `than`, treatment > than.

    Compared are means over units; a negative margin says "at most that much below".
    """

    def _region(self) -> Region:
        return Region(low=self.margin if self.than is None else self.than)


@dataclass(frozen=True)
class Less(_OneSided):
    """treatment - baseline < -margin; with `ratio`, treatment / baseline < margin; with `than`, treatment < than.

    Compared are means over units; a negative margin says "at most that much above".
    """

    def _region(self) -> Region:
        if self.than is not None:
            return Region(high=self.than)
        return Region(high=self.margin if self.ratio else 0.0 - self.margin)


@dataclass(frozen=True)
class Within(_OfMeans):
    """The mean of treatment - baseline (with `ratio`: the ratio; without a baseline: the mean) is in [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"Within needs low < high, got low={self.low:g} and high={self.high:g}")

    def _statistic(self) -> str:
        return "treatment / baseline" if self.ratio else "mean"

    def _region(self) -> Region:
        return Region(self.low, self.high, closed=True)

    def _check(self, sample: Sample) -> None:
        if self.ratio and sample.baseline is None:
            raise UserError("Within(ratio=True) divides by a baseline: give Sample.baseline")


@dataclass(frozen=True)
class Identity(Relation):
    """The largest |treatment - baseline| (without a baseline: |treatment|) is at most `tolerance`."""

    exact: ClassVar[bool] = True
    tolerance: float

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise UserError(f"Identity needs tolerance >= 0, got {self.tolerance:g}")

    def estimate(self, sample: Sample) -> float:
        """The largest deviation of all units."""
        t, b = _arrays(sample)
        return float(np.abs(t if b is None else t - b).max())

    def interval(self, sample: Sample, seed: int = 0) -> Interval:
        """The largest deviation itself: an identity is judged on every value."""
        largest = self.estimate(sample)
        return Interval(largest, largest, "largest of all values")

    def _statistic(self) -> str:
        return "max |deviation|"

    def _region(self) -> Region:
        return Region(high=self.tolerance, closed=True)

    def _check(self, sample: Sample) -> None:
        """Any sample will do."""


@dataclass(frozen=True)
class Rate(Relation):
    """The success probability is at least `at_least`, or at most `at_most`; the treatment is 0 or 1 per unit."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if len(bounds) != 1 or not 0 < bounds[0] < 1:
            raise UserError("Rate needs exactly one of at_least and at_most, strictly between 0 and 1")

    def estimate(self, sample: Sample) -> float:
        """The share of successes."""
        return sum(sample.treatment) / sample.n

    def interval(self, sample: Sample, seed: int = 0) -> Interval:
        """The exact binomial (Clopper-Pearson) interval."""
        return _scalars(statistics.rate_interval(int(sum(sample.treatment)), sample.n))

    def _statistic(self) -> str:
        return "rate"

    def _region(self) -> Region:
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return Region(low, high, closed=True)

    def _check(self, sample: Sample) -> None:
        if sample.baseline is not None:
            raise UserError("Rate judges the treatment's successes alone: leave out Sample.baseline")
        if any(value not in (0.0, 1.0) for value in sample.treatment if math.isfinite(value)):
            raise UserError("Rate needs a Sample of successes: every treatment value 0 or 1")


@dataclass(frozen=True)
class RankCorrelation(Relation):
    """Spearman's rho of treatment (x) and baseline (y) is above `greater_than`; pairs are resampled."""

    greater_than: float = 0.0

    def __post_init__(self) -> None:
        if not -1 < self.greater_than < 1:
            raise UserError(f"RankCorrelation needs greater_than between -1 and 1, got {self.greater_than:g}")

    def estimate(self, sample: Sample) -> float:
        """Spearman's rho."""
        x, y = _pairs(sample)
        for name, values in (("x (treatment)", x), ("y (baseline)", y)):
            if np.ptp(values) == 0:
                raise Undefined(f"all {sample.n} values of {name} are equal: they have no rank order")
        return float(statistics.spearman(x, y))

    def interval(self, sample: Sample, seed: int = 0) -> Interval:
        """The wider of the BCa bootstrap over pairs and Bonett and Wright's Fisher z."""
        if sample.n < 4:
            return Interval(-1.0, 1.0, "none: fewer than 4 pairs have no interval")
        return _scalars(statistics.rank_interval(*_pairs(sample), seed))

    def _statistic(self) -> str:
        return "Spearman's rho"

    def _region(self) -> Region:
        return Region(low=self.greater_than)

    def _check(self, sample: Sample) -> None:
        if sample.baseline is None:
            raise UserError("RankCorrelation needs pairs: x in Sample.treatment and y in Sample.baseline")


def _arrays(sample: Sample) -> tuple[Array, Array | None]:
    baseline = None if sample.baseline is None else np.asarray(sample.baseline, dtype=np.float64)
    return np.asarray(sample.treatment, dtype=np.float64), baseline


def _pairs(sample: Sample) -> tuple[Array, Array]:
    return np.asarray(sample.treatment, dtype=np.float64), np.asarray(sample.baseline, dtype=np.float64)


def _scalars(bounds: Bounds) -> Interval:
    return Interval(float(bounds.low), float(bounds.high), bounds.method)
