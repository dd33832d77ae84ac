"""Learning curves, as in the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaloop_mdpo.contest import Course

COLOURS = ("#d1495b", "#00798c", "#30638e", "#edae49", "#66a182", "#7a5195")


def save(figure: Figure) -> Callable[[Path], object]:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=150)


def learning_curves(courses: Mapping[str, Sequence[Course]], title: str) -> Figure:
    """Mean return over environment steps, all seeds thin; below the KL of each iteration where it is known."""
    known = any("kl" in row for course in courses.values() for row in course[0])
    figure = Figure(figsize=(8.2, 6.2 if known else 4.4), layout="constrained")
    if known:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        _lines(below, courses, "kl")
        below.set_yscale("log")
        below.set_ylabel("KL of an iteration")
    else:
        above = below = figure.subplots()
    _lines(above, courses, "fitness")
    above.set_title(title)
    above.set_ylabel("return (mean of last episodes)")
    above.legend(fontsize=9)
    below.set_xlabel("environment steps")
    return figure


def _lines(axes: Axes, courses: Mapping[str, Sequence[Course]], name: str) -> None:
    for (who, own), colour in zip(courses.items(), COLOURS * len(courses), strict=False):
        rows = [[row for row in course if name in row] for course in own]
        if not rows[0]:
            continue
        steps = [row["steps"] for row in rows[0]]
        values = np.array([[row[name] for row in course[: len(steps)]] for course in rows])
        for each in values:
            axes.plot(steps, each, color=colour, linewidth=0.7, alpha=0.45)
        axes.plot(steps, values.mean(0), color=colour, linewidth=2.2, label=who)
    axes.grid(alpha=0.25)
