"""95% confidence intervals of the statistics that a claim is judged by.

With the 5 to 20 seeds that a claim can afford, the BCa bootstrap alone is too sure of itself: its 95% interval of a
mean covers 84% of normal samples of 5. Student's t is exact there but symmetric, so it misses the long tail of a
skewed sample. The interval of a mean or a ratio is therefore the wider one, end by end, of BCa (Efron 1987) and
Student's t (for a ratio: Fieller 1954); that of a rank correlation, of BCa and Fisher's z.

Coverage over 4000 simulated samples (1000 for rho) with 1000 resamples each; standard error at most 0.006:

| statistic and law | n = 5 | n = 10 | n = 20 |
|---|---|---|---|
| mean, normal | 0.95 | 0.95 | 0.96 |
| mean, t with 3 degrees of freedom | 0.97 | 0.96 | 0.96 |
| mean, log-normal, sigma 0.5 | 0.92 | 0.92 | 0.93 |
| mean, exponential | 0.89 | 0.91 | 0.94 |
| mean, log-normal, sigma 1 | 0.82 | 0.85 | 0.89 |
| ratio of log-normal means, sigma 0.3 | 0.95 | 0.95 | 0.95 |
| Spearman's rho 0.5, binormal | 0.99 | 0.98 | 0.97 |

So a claim about a strongly skewed quantity (a return, a loss near 0) is better stated about its logarithm.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9999
_BATCH_ELEMENTS = 4_000_000


class Bounds(NamedTuple):
    """The ends of 95% confidence intervals, one per leading index of the samples, and the method that gave them."""

    low: Array
    high: Array
    method: str


class Statistic(Protocol):
    """A statistic of one or two samples along an axis."""

    def __call__(self, *samples: Array, axis: int) -> Array:
        """The statistic along `axis`."""


def mean_interval(values: Array, seed: int = 0, resamples: int = RESAMPLES) -> Bounds:
    """The interval of the mean over the last axis of `values`, shape `[..., n]`, n >= 2."""
    from scipy import stats

    n = values.shape[-1]
    mean = values.mean(axis=-1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return _wider(_bca((values,), _mean, seed, resamples), (mean - half, mean + half), "Student t", resamples)


def ratio_interval(treatment: Array, baseline: Array, seed: int = 0, resamples: int = RESAMPLES) -> Bounds:
    """The interval of mean(treatment) / mean(baseline), paired along the last axis; baseline > 0, n >= 2."""
    bca = _bca((treatment, baseline), _ratio, seed, resamples)
    return _wider(bca, _fieller(treatment, baseline), "Fieller's t", resamples)


def rank_interval(x: Array, y: Array, seed: int = 0, resamples: int = RESAMPLES) -> Bounds:
    """The interval of Spearman's rho of the pairs (x, y) along the last axis, n >= 4."""
    return _wider(_bca((x, y), spearman, seed, resamples), _bonett_wright(x, y), "Bonett-Wright's Fisher z", resamples)


def rate_interval(successes: int, n: int) -> Bounds:
    """The Clopper-Pearson interval of a success probability; it covers at least 95% at every n."""
    from scipy import stats

    low, high = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="exact")
    return Bounds(np.asarray(low), np.asarray(high), "exact binomial (Clopper-Pearson)")


def spearman(*samples: Array, axis: int = -1) -> Array:
    """Spearman's rank correlation of two samples along `axis`; 0 where either is constant (no order to agree on)."""
    from scipy import stats

    ranks = [stats.rankdata(sample, axis=axis) for sample in samples]
    a, b = (rank - rank.mean(axis=axis, keepdims=True) for rank in ranks)
    covariance = (a * b).sum(axis=axis)
    scale = np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0))


def _mean(*samples: Array, axis: int) -> Array:
    return np.asarray(samples[0].mean(axis=axis))


def _ratio(*samples: Array, axis: int) -> Array:
    treatment, baseline = samples
    return np.asarray(treatment.mean(axis=axis) / baseline.mean(axis=axis))


def _bca(samples: Sequence[Array], statistic: Statistic, seed: int, resamples: int) -> tuple[Array, Array]:
    """The BCa bootstrap over pairs; NaN where it is undefined (a bootstrap distribution without spread)."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.bootstrap(
            samples,
            statistic,
            n_resamples=resamples,
            batch=max(1, _BATCH_ELEMENTS // samples[0].size),
            paired=len(samples) > 1,
            axis=-1,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    return result.confidence_interval.low, result.confidence_interval.high


def _fieller(treatment: Array, baseline: Array) -> tuple[Array, Array]:
    """All ratios r for which the paired t-test of treatment - r * baseline keeps "mean 0"; unbounded where that is."""
    from scipy import stats

    n = treatment.shape[-1]
    q = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) ** 2 / (n * (n - 1))
    t, b = treatment.mean(axis=-1), baseline.mean(axis=-1)
    dt, db = treatment - t[..., None], baseline - b[..., None]
    # a r^2 - 2 h r + c <= 0
    a = b * b - q * (db * db).sum(axis=-1)
    h = t * b - q * (dt * db).sum(axis=-1)
    c = t * t - q * (dt * dt).sum(axis=-1)
    root = np.sqrt(np.maximum(h * h - a * c, 0.0))
    bounded = a > 0
    a = np.where(bounded, a, 1.0)
    return np.where(bounded, (h - root) / a, -np.inf), np.where(bounded, (h + root) / a, np.inf)


def _bonett_wright(x: Array, y: Array) -> tuple[Array, Array]:
    """Fisher's z interval of Spearman's rho with the standard error of Bonett and Wright (2000)."""
    from scipy import stats

    n = x.shape[-1]
    rho = spearman(x, y)
    # A perfect order has no finite z: it is treated as one swap of neighbours away, and its own end stays at 1.
    most = 1 - 12 / (n * (n * n - 1))
    z = np.arctanh(np.clip(rho, -most, most))
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((1 + rho * rho / 2) / (n - 3))
    return np.minimum(np.tanh(z - half), rho), np.maximum(np.tanh(z + half), rho)


def _wider(bca: tuple[Array, Array], other: tuple[Array, Array], name: str, resamples: int) -> Bounds:
    """The union of both intervals; where BCa is undefined, the other one."""
    defined = bool(np.all(np.isfinite(bca)))
    method = f"wider of BCa bootstrap ({resamples} resamples) and {name}" if defined else f"{name} (BCa undefined)"
    return Bounds(np.fmin(bca[0], other[0]), np.fmax(bca[1], other[1]), method)
