"""Pictures that a reader of the paper recognises: schedules over a life, drifts over the ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from metaloop_ta_lpg.schedule import FRACTIONS, Schedule


def save(figure: Figure) -> Callable[[Path], object]:
    """What writes a figure to a path."""
    return lambda path: figure.savefig(path, dpi=130)


def schedules(found: Mapping[str, Mapping[int, Schedule]]) -> Figure:
    """Above the size of updates, told the time of life; below the entropy of policies; a column for each rule."""
    figure = Figure(figsize=(3.4 * len(found), 5.6), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False, sharey="row")
    for column, (name, own) in enumerate(found.items()):
        for i, (lifetime, one) in enumerate(own.items()):
            color = f"C{i}"
            panels[0][column].plot(FRACTIONS, one.size, marker="o", color=color, label=f"N = {lifetime}")
            done = [(k + 1) / lifetime for k in range(lifetime)]
            panels[1][column].plot(done, one.entropy, color=color)
        panels[0][column].set_title(name)
        panels[1][column].set_xlabel("n / N")
        for row in (0, 1):
            panels[row][column].grid(alpha=0.25)
    panels[0][0].set_ylabel("mean |pi_hat|, fixed experience")
    panels[1][0].set_ylabel("entropy of the policy, nats")
    panels[0][-1].legend(fontsize=8)
    return figure


def drifts(ratios: Sequence[float], found: Mapping[str, Mapping[float, list[list[float]]]]) -> Figure:
    """A row for each sign of the advantage, a column for each drift, lines for n / N."""
    figure = Figure(figsize=(3.4 * len(found), 5.2), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False, sharex=True)
    for column, (name, curves) in enumerate(found.items()):
        for fraction, signs in curves.items():
            for row, values in enumerate(signs):
                panels[row][column].plot(ratios, values, label=f"n / N = {fraction:g}")
        panels[0][column].set_title(f"{name}, A = 1")
        panels[1][column].set_title(f"{name}, A = -1")
        panels[1][column].set_xlabel("ratio")
    panels[0][0].set_ylabel("drift")
    panels[1][0].set_ylabel("drift")
    panels[0][0].legend(fontsize=8)
    return figure
