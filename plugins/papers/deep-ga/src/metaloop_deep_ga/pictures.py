"""Pictures of searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from metaloop_deep_ga.maze import SUCCESS, WALLS, HardMaze


def save(figure: Figure) -> Callable[[Path], None]:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=130)


def endings(maps: Mapping[str, Tensor], env: HardMaze) -> Figure:
    """Where individuals ended `[individual, 2]` under each way to search: early ones pale, late ones dark."""
    figure = Figure(figsize=(1.0 + 3.6 * len(maps), 4.0), layout="constrained")
    for axes, (name, seen) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        for (ax, ay), (bx, by) in WALLS:
            axes.plot([ax, bx], [ay, by], color="black", linewidth=1.2)
        points = axes.scatter(*seen.T.tolist(), c=range(len(seen)), s=3, cmap="viridis_r", linewidths=0)
        axes.plot(env.start_x, env.start_y, "o", color="tab:blue", label="start")
        axes.plot(env.goal_x, env.goal_y, "*", color="tab:red", markersize=12, label="goal")
        axes.set_title(name)
        axes.set_aspect("equal")
        axes.set_axis_off()
    axes.legend(loc="lower right", fontsize=8)
    figure.colorbar(points, ax=axes, shrink=0.7, label="individual")
    return figure


def distances(curves: Mapping[str, Tensor]) -> Figure:
    """Least distance to the goal so far over individuals."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, best in curves.items():
        axes.plot(range(1, len(best) + 1), best.tolist(), label=name)
    axes.axhline(SUCCESS, color="grey", linestyle=":", label="goal reached")
    axes.set_xlabel("evaluations")
    axes.set_ylabel("least distance to the goal")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    return figure


def progress(curves: Mapping[str, Mapping[str, Sequence[float]]], tests: Mapping[str, float]) -> Figure:
    """Returns over generations: the best individual's where candidates were judged again, and the population's mean.

    Dotted lines are tests on fresh episodes, of methods without generations too.
    """
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = figure.subplots()
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys((*curves, *tests)))}
    for name, curve in curves.items():
        axes.plot(
            curve["step"], curve["best_validation"], color=colours[name], label=f"{name}: best so far, judged again"
        )
        axes.plot(curve["step"], curve["population/fitness"], color=colours[name], alpha=0.4, label=f"{name}: mean")
    for name, value in tests.items():
        axes.axhline(value, color=colours[name], linestyle=":", label=f"{name}: test")
    axes.set_xlabel("generation")
    axes.set_ylabel("return")
    figure.legend(loc="outside right upper", fontsize=7)
    axes.grid(alpha=0.25)
    return figure
