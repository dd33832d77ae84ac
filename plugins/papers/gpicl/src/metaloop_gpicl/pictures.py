"""Pictures that a reader of the paper recognises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaloop_gpicl.analysis import Estimate

Save = Callable[[Path], object]
Line = tuple[Sequence[float], Sequence[float]]
STYLE: Mapping[str, Mapping[str, Any]] = {
    "gpicl": {"color": "#d1495b", "linewidth": 2.2, "marker": "o", "markersize": 4},
    "nearest neighbour": {"color": "#3d3d3d", "linestyle": "--"},
    "logistic regression": {"color": "#30638e", "linestyle": "--"},
    "MLP from scratch": {"color": "#00798c", "linestyle": "--"},
    "commonest class": {"color": "#bbbbbb", "linestyle": ":"},
}


def save(figure: Figure) -> Save:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=150)


def learning_curves(
    curves: Mapping[str, Mapping[str, Sequence[Estimate]]], sizes: Sequence[int], chance: float
) -> Figure:
    """Accuracy against examples in context: a panel for each kind of task, a line for each learner."""
    figure = Figure(figsize=(3.3 * len(curves) + 2.2, 3.7), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (name, lines) in zip(panels, curves.items(), strict=True):
        for learner, found in lines.items():
            style = STYLE.get(learner, {"linewidth": 1.4})
            (drawn,) = axes.plot(sizes, [at.mean for at in found], label=learner, **style)
            bounds = [at.low for at in found], [at.high for at in found]
            axes.fill_between(sizes, *bounds, color=drawn.get_color(), alpha=0.12, linewidth=0)
        axes.axhline(chance, color="#bbbbbb", linewidth=0.8)
        axes.set_title(name, fontsize=10)
        _label(axes, "examples in context", "accuracy on queries" if axes is panels[0] else "")
    panels[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def lines(
    found: Mapping[str, Line], x: str, y: str, *, level: tuple[float, str] | None = None, log: bool = False
) -> Figure:
    """Lines over one pair of axes; `level` is a horizontal one with its name, `log` scales x."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, (at, values) in found.items():
        axes.plot(at, values, label=name, linewidth=1.6, marker="o" if len(at) < 15 else None, markersize=4)
    if level is not None:
        axes.axhline(level[0], color="#888888", linestyle=":", label=level[1])
    if log:
        axes.set_xscale("log", base=2)
    _label(axes, x, y)
    axes.legend(fontsize=8)
    return figure


def transition(found: Mapping[str, Mapping[str, Line]], chance: float) -> Figure:
    """Accuracy against the number of meta-training tasks: a panel for each model size, a line for each kind of task."""
    figure = Figure(figsize=(4.2 * len(found), 3.8), layout="constrained")
    for axes, (name, rows) in zip(
        figure.subplots(1, len(found), squeeze=False, sharey=True)[0], found.items(), strict=True
    ):
        for kind, (at, values) in rows.items():
            axes.plot(at, values, marker="o", markersize=4, label=kind)
        axes.axhline(chance, color="#bbbbbb", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_title(name, fontsize=10)
        _label(axes, "meta-training tasks", "accuracy on queries")
        axes.legend(fontsize=8)
    return figure


def ladder(rows: Sequence[Mapping[str, Any]], chance: float) -> Figure:
    """Accuracy against the size of the state, and against the number of parameters."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("state", "parameters"), strict=True):
        for row in rows:
            axes.plot(row[name], row["unseen"]["mean"], "o", label=row["name"])
        axes.axhline(chance, color="#888888", linestyle=":", label="chance")
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.1)
        _label(axes, "numbers in the state" if name == "state" else name, "")
    panels[0].set_ylabel("accuracy on unseen tasks")
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def formats(training: Mapping[str, Line], places: Mapping[str, Line], chance: float) -> Figure:
    """Two formats of one learner: accuracy over training, and over the examples in context once trained."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, found, label in ((left, training, "training steps"), (right, places, "examples in context")):
        for name, (at, values) in found.items():
            axes.plot(at, values, label=name, linewidth=1.6)
        axes.axhline(chance, color="#888888", linestyle=":", label="chance")
        _label(axes, label, "accuracy on unseen tasks" if axes is left else "")
        axes.legend(fontsize=8)
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
