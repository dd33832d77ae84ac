"""Pictures of what was meta-trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from metaloop_groove.heldout import BAR


def save(figure: Figure) -> Callable[[Path], None]:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=130)


def sorted_returns(found: Mapping[str, Tensor]) -> Figure:
    """Returns on held-out levels as shares of A2C's, each rule's sorted by itself (as the paper's Figure 4)."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, shares in found.items():
        axes.plot(range(1, len(shares) + 1), sorted(shares.tolist()), label=name)
    axes.axhline(1.0, color="black", linewidth=0.8, label="A2C")
    axes.axhline(BAR, color="grey", linestyle=":", label=f"{BAR:.0%} of A2C")
    axes.set_xlabel("held-out levels, worst first")
    axes.set_ylabel("return (0: random, 1: A2C)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    return figure


def training(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Mean returns of agents in their lives over meta-steps: (steps, returns) of each rule."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name)
    axes.set_xlabel("meta-step")
    axes.set_ylabel("return of the lives in progress")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    return figure
