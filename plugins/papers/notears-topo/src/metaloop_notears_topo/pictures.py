"""Pictures that a reader of the paper recognises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

Save = Callable[[Path], object]


def save(figure: Figure) -> Save:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=130)


class Curves(NamedTuple):
    """Scores of one solver's searches."""

    trace: Tensor
    """`[task, round]`: Q, NaN after the last round."""
    reference: Tensor
    """`[task]`: Q of the true order; NaN where it is not known."""


COLUMNS = 3
"""Panels in a row."""


def recovered(graphs: Mapping[str, Tensor], true: Tensor | None, names: Sequence[str] | None = None) -> Figure:
    """Weights `[node, node]` of found graphs beside the true ones, nodes in the true order or the table's."""
    shown = ({} if true is None else {"true": true}) | dict(graphs)
    figure = Figure(figsize=(0.9 + 2.9 * len(shown), 3.4), layout="constrained")
    strongest = max(float(weights.abs().max()) for weights in shown.values()) or 1.0
    for axes, (title, weights) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        image = axes.imshow(weights.tolist(), cmap="RdBu", vmin=-strongest, vmax=strongest)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("to")
        if names is None:
            axes.set_xticks([])
            axes.set_yticks([])
        else:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
            axes.set_yticks(range(len(names)), names, fontsize=5)
    figure.axes[0].set_ylabel("from")
    figure.colorbar(image, ax=figure.axes, shrink=0.8, label="weight")
    return figure


def scores(panels: Mapping[str, Mapping[str, Curves]]) -> Figure:
    """Per panel: how far Q lies above the true order's, over rounds, one line for each data set and solver.

    Where the true order is not known, Q itself.
    """
    rows, columns = -(-len(panels) // COLUMNS), min(len(panels), COLUMNS)
    figure = Figure(figsize=(0.6 + 3.7 * columns, 3.4 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in places[len(panels) :]:
        unused.set_axis_off()
    for axes, (title, solvers) in zip(places, panels.items(), strict=False):
        known = all(bool(curves.reference.isfinite().all()) for curves in solvers.values())
        for colour, (name, curves) in zip((f"C{i}" for i in range(10)), solvers.items(), strict=False):
            traces = (curves.trace / curves.reference[:, None] if known else curves.trace).cpu().numpy()
            for i, row in enumerate(traces):
                row = row[np.isfinite(row)]
                axes.plot(row, color=colour, alpha=0.5, linewidth=1.0, label=name if i == 0 else None)
                axes.plot(len(row) - 1, row[-1], ".", color=colour, markersize=5)
        if known:
            axes.axhline(1.0, color="black", linestyle=":", linewidth=1.0, label="true order")
            axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("round of swaps")
        axes.set_ylabel("Q / Q of the true order" if known else "Q")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    return figure
