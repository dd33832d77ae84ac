"""Pictures that a reader of the paper recognises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from metaloop_icl_gd.analysis import Sweep
from metaloop_icl_gd.attention import Products

Save = Callable[[Path], object]
STYLE: Mapping[str, Mapping[str, Any]] = {
    "trained": {"color": "#d1495b", "marker": "+", "markersize": 9, "linewidth": 1.2},
    "gradient descent": {"color": "#00798c", "marker": "v", "linewidth": 2.2},
    "GD++": {"color": "#30638e", "marker": "x", "linewidth": 1.6},
    "interpolated": {"color": "#edae49", "marker": "o", "markersize": 4, "linewidth": 1.2},
}


def save(figure: Figure) -> Save:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=150)


def alignment_over_training(history: Sequence[Mapping[str, Any]], reference: str) -> Figure:
    """The loss against gradient descent's, and how alike the two become (paper, figure 2)."""
    rows = [row for row in history if "eval/loss" in row]
    steps = [row["step"] for row in rows]

    def column(name: str) -> list[float]:
        return [row[f"eval/{name}"] for row in rows]

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, column("reference_loss"), color="#00798c", linewidth=3, label=reference)
    left.plot(steps, column("loss"), color="#d1495b", linewidth=1.6, label="trained")
    _label(left, "training steps", "loss on held-out tasks")
    right.plot(steps, column("model_difference"), color="#edae49", label=r"$|J - J_{GD}|$")
    right.plot(steps, column("prediction_difference"), color="#30638e", label="prediction difference")
    _label(right, "training steps", "difference (L2 norm)")
    right.set_ylim(bottom=0)
    twin = right.twinx()
    twin.plot(steps, column("cosine"), color="#3d3d3d", linestyle="--", label="cosine of J (right axis)")
    twin.set_ylim(-0.1, 1.05)
    lines = [*right.get_lines(), *twin.get_lines()]
    right.legend(lines, [line.get_label() for line in lines], fontsize=8, loc="center right")
    return figure


def sweeps(found: Mapping[str, Sweep]) -> Figure:
    """Losses over rows of shifted laws (paper, figures on out-of-distribution tasks)."""
    figure = Figure(figsize=(3.6 * len(found), 3.4), layout="constrained")
    for axes, (name, sweep) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for model, losses in sweep.losses.items():
            axes.plot(sweep.at, losses, label=model, **STYLE.get(model, {"linewidth": 1.2}))
        _label(axes, name, "loss")
        if name != "noisy labels":
            axes.set_yscale("log")
    return figure


def weights(trained: Products, constructed: Products) -> Figure:
    """The products of single-head layers, trained and constructed, `[layer, head, width, width]`; the first layer's."""
    figure = Figure(figsize=(7.5, 6.4), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (label, found) in zip(panels, (("trained", trained), ("construction", constructed)), strict=True):
        for axes, name, product in zip(row, (r"$W_K^\top W_Q$", r"$P W_V$"), found, strict=True):
            matrix: Tensor = product[0, 0].detach().cpu()
            size = float(matrix.abs().max())
            image = axes.imshow(matrix.numpy(), cmap="RdBu", vmin=-size, vmax=size)
            axes.set_title(f"{name}, {label}", fontsize=10)
            figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def bars(tables: Mapping[str, Mapping[str, tuple[float, float, float]]], ylabel: str) -> Figure:
    """Means with intervals (estimate, low, high) of each model, one group of bars per table."""
    figure = Figure(figsize=(1.6 + 3.4 * len(tables), 3.8), layout="constrained")
    axes = figure.subplots()
    models = list(next(iter(tables.values())))
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        estimates = [rows[model] for rows in tables.values()]
        centres = [position + (i - (len(models) - 1) / 2) * width for position in range(len(tables))]
        errors = [[e - low for e, low, _ in estimates], [high - e for e, _, high in estimates]]
        axes.bar(centres, [e for e, _, _ in estimates], width * 0.92, yerr=errors, capsize=2, label=model)
    axes.set_xticks(range(len(tables)), list(tables))
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8)
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    if axes.get_lines():
        axes.legend(fontsize=8)
