"""What is read off a table of a grid: how high the peak is, and how well the training loss was minimised there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaloop_double_descent.grid import Factors

if TYPE_CHECKING:
    import pandas as pd

FACTORS = tuple(Factors.model_fields)
Array = NDArray[np.float64]


class Region(NamedTuple):
    """Where the threshold is, in widths, and how far around it one looks."""

    threshold: float
    """The width at which as many numbers are fitted as there are to fit."""
    low: float = 0.9
    high: float = 1.5
    """Of the threshold: where the peak is looked for."""

    def near(self, width: pd.Series) -> pd.Series:
        """Which widths are where the peak is looked for."""
        ratio = width / self.threshold
        return (ratio >= self.low - 1e-9) & (ratio <= self.high + 1e-9)


def peaks(table: pd.DataFrame, region: Region, by: Sequence[str] = (*FACTORS, "seed")) -> pd.DataFrame:
    """One row per group of a grid's rows, with what its curve over widths looks like.

    `height`: largest loss near the threshold over the loss at the largest width. `contrast`: the same over the smallest
    loss left of there (NaN where no width is). `train_loss`: geometric mean of the training loss near the threshold,
    from the threshold on.
    """
    import pandas as pd

    rows = []
    for names, group in table.groupby(list(by), sort=False):
        near = region.near(group["width"])
        fitted = near & (group["width"] >= region.threshold)
        left = group[group["width"] < region.low * region.threshold]["loss"]
        peak, end = group[near]["loss"].max(), group[group["width"] == group["width"].max()]["loss"].mean()
        rows.append(
            {
                **dict(zip(by, names, strict=True)),
                "peak": peak,
                "end": end,
                "height": peak / end,
                "contrast": peak / left.min() if len(left) else np.nan,
                "train_loss": geometric(group[fitted]["train_loss"].to_numpy()),
            }
        )
    return pd.DataFrame(rows)


def geometric(values: Array, floor: float = 1e-30) -> float:
    """The geometric mean; the peak is heavy-tailed, so means are taken of logarithms."""
    return float(np.exp(np.log(np.maximum(values, floor)).mean()))


def over_seeds(table: pd.DataFrame, columns: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Geometric means over seeds of columns, one row per group."""
    logs = table[list(columns)].clip(lower=1e-30).apply(np.log)
    means: pd.DataFrame = logs.groupby([table[name] for name in by], sort=False).mean().apply(np.exp)
    return means.reset_index()


class Collapse(NamedTuple):
    """How well one falling curve from training loss to peak height fits all configurations."""

    rank_correlation: float
    """Spearman's."""
    explained: float
    """Share of the variance of log height that an isotonic fit on all configurations explains."""
    left_out: float
    """The same where each factor's configurations are predicted from those of the other factors."""


def collapse(train_loss: Array, height: Array, factor: Sequence[str]) -> Collapse:
    """The collapse of configurations: logarithms of both numbers, and which factor each varies."""
    from scipy.stats import spearmanr

    x, y = np.log(np.maximum(train_loss, 1e-30)), np.log(height)
    groups = np.asarray(factor)
    predicted = np.empty_like(y)
    for name in dict.fromkeys(factor):
        out = groups == name
        predicted[out] = isotonic(x[~out], y[~out], x[out])
    return Collapse(float(spearmanr(x, y).statistic), explained(y, isotonic(x, y, x)), explained(y, predicted))


def isotonic(x: Array, y: Array, at: Array) -> Array:
    """The falling step function through `(x, y)` that is nearest to it, at other places; flat beyond its ends."""
    from sklearn.isotonic import IsotonicRegression

    found: Array = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(x, y).predict(at)
    return found


def explained(y: Array, predicted: Array) -> float:
    """R^2."""
    return float(1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum())


def varied(row: Mapping[Any, Any]) -> str:
    """Which factors of a row differ from gradient descent from zero on raw data, beside the number of steps."""
    plain = Factors()
    others = [name for name in FACTORS if name != "steps" and row[name] != getattr(plain, name)]
    return " + ".join(others) or "steps"
