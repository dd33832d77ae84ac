"""Pictures that a reader of the paper recognises."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaloop_double_descent.curves import isotonic

if TYPE_CHECKING:
    import pandas as pd

Save = Callable[[Path], object]
MARKERS = "osD^vPX*<>"
FLOOR = 1e-8
"""Training errors below are drawn there."""


def save(figure: Figure) -> Save:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=150)


def double_descent(
    curves: pd.DataFrame, conditions: pd.DataFrame, configurations: pd.DataFrame, threshold: float, width: str
) -> Figure:
    """Test error over widths above, condition numbers below, and beside them peak height against training loss.

    Args:
        curves: geometric means over seeds; columns `name`, `width`, `loss`, `train_loss`.
        conditions: the same with `name`, `width`, `condition`; empty for networks, whose training loss is drawn then.
        configurations: one row per configuration; columns `factor`, `height`, `train_loss`.
        threshold: the width at which training data can just be fitted.
        width: what the horizontal axis is called.
    """
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.7, 1), width_ratios=(1.25, 1))
    above, beside = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    names = list(dict.fromkeys(curves["name"]))
    colours = {name: colormaps["viridis"](i / max(1, len(names) - 1) * 0.92) for i, name in enumerate(names)}
    _lines(above, curves, "loss", threshold, colours)
    above.legend(fontsize=8)
    above.set_ylabel("test error (squared)")
    above.tick_params(labelbottom=False)
    if len(conditions):
        shades = {
            name: shade for name, shade in zip(dict.fromkeys(conditions["name"]), ("#222222", "#b5541c"), strict=False)
        }
        _lines(below, conditions, "condition", threshold, shades)
        below.legend(fontsize=8)
        below.set_ylabel("condition number of F")
    else:
        _lines(below, curves, "train_loss", threshold, colours)
        below.set_ylabel("training error")
    below.set_xlabel(width)
    collapse(beside, configurations)
    return figure


def collapse(axes: Axes, configurations: pd.DataFrame) -> None:
    """Peak height against training loss at the threshold, one mark per configuration, and the isotonic fit."""
    factors = list(dict.fromkeys(configurations["factor"]))
    colours = colormaps["tab10"]
    for i, factor in enumerate(factors):
        rows = configurations[configurations["factor"] == factor]
        axes.loglog(
            rows["train_loss"].clip(lower=FLOOR),
            rows["height"],
            MARKERS[i % len(MARKERS)],
            color=colours(i % 10),
            markersize=6,
            alpha=0.85,
            markeredgewidth=0,
            label=factor,
        )
    x = np.log(configurations["train_loss"].clip(lower=FLOOR).to_numpy())
    at = np.linspace(x.min(), x.max(), 400)
    fit = np.exp(isotonic(x, np.log(configurations["height"].to_numpy()), at))
    axes.loglog(np.exp(at), fit, color="#222222", linewidth=1.5, label="isotonic fit", zorder=1)
    axes.axhline(1.0, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"training error at the threshold (from {FLOOR:g} down all at the left)")
    axes.set_ylabel("height of the peak (largest test error near the threshold / at the largest width)", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _lines(axes: Axes, rows: pd.DataFrame, column: str, threshold: float, colours: dict[Any, Any]) -> None:
    for i, (name, colour) in enumerate(colours.items()):
        own = rows[rows["name"] == name].sort_values("width")
        ratio = own["width"] / threshold
        axes.loglog(ratio, own[column], marker=MARKERS[i % len(MARKERS)], markersize=4, color=colour, label=name)
    axes.axvline(1.0, color="#999999", linewidth=0.8, linestyle=":")
    first, last = rows["width"].min() / threshold, rows["width"].max() / threshold
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 64) if first / 1.2 <= tick <= last * 1.2]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.25)


def power(steps: float) -> str:
    """A number of steps as text: `10^5`, or as it is."""
    exponent = math.log10(steps)
    return f"$10^{{{exponent:.0f}}}$" if abs(exponent - round(exponent)) < 1e-9 else f"{steps:g}"
