"""Pictures of histories."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metaloop.errors import UnknownName, UserError
from metaloop.groups import Group
from metaloop.store import Run
from metaloop.summaries import Mean, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]
"""Rows of metrics, each with its step."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00", "#8c564b")
"""Okabe and Ito's, which people who see few colours tell apart; brown for their yellow, which is faint on white."""
_LINES = ("-", "--", ":", "-.")
_ACROSS = 3
"""Panels beside each other."""


def curves(histories: Mapping[str, History], metrics: Sequence[str] = ()) -> Figure:
    """Curves over outer steps, one panel per metric, one line per history; the default is every loss.

    Raises:
        UserError: matplotlib is not installed.
        UnknownName: no history has such a metric.
    """
    return bands({label: [rows] for label, rows in histories.items()}, metrics)


def bands(groups: Mapping[str, Sequence[History]], metrics: Sequence[str] = ()) -> Figure:
    """Mean curves over outer steps with Student's 95% interval at each, one panel per metric; one line per group.

    A mean is over those histories of a group that have the metric at that step; where only one has, there is no band.

    Raises:
        UserError: matplotlib is not installed.
        UnknownName: no history has such a metric.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("pictures need matplotlib: pip install 'metaloop[plot]'") from error
    wanted = _wanted({name for group in groups.values() for rows in group for row in rows for name in row}, metrics)
    down, across = max(1, math.ceil(len(wanted) / _ACROSS)), max(1, min(_ACROSS, len(wanted)))
    figure = Figure(figsize=(5.5 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes in panels[len(wanted) :]:
        axes.remove()
    for axes, name in zip(panels, wanted, strict=False):
        for number, (label, group) in enumerate(groups.items()):
            if means := _means(group, name):
                _draw(axes, f"{label} (n = {len(group)})" if len(group) > 1 else label, means, number)
        _look_at_lines(axes)
        axes.set_xlabel("outer step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
    if len(groups) > 1 or any(len(group) > 1 for group in groups.values()):
        _explain(figure, any(len(group) > 1 for group in groups.values()))
    return figure


def histories(groups: Iterable[Group]) -> dict[str, list[History]]:
    """What `bands` draws for groups of runs; the runs inside them stage by stage, under `label/stage`."""
    found: dict[str, list[History]] = {}
    for group in groups:
        for run in group.runs:
            for label, rows in _inside(group.label, run):
                found.setdefault(label, []).append(rows)
    return found


def _inside(label: str, run: Run) -> Iterator[tuple[str, History]]:
    """The histories of a run and of the runs inside it."""
    if rows := run.history():
        yield label, rows
    for child in run.children():
        yield from _inside(f"{label}/{child.path.name}", child)


def _wanted(known: set[str], metrics: Sequence[str]) -> list[str]:
    """The metrics to draw."""
    names = sorted(known - {"step", "time"})
    for name in metrics:
        if name not in names:
            raise UnknownName(f"no metric {name!r} in the history; there are {', '.join(names) or 'none'}")
    return list(metrics) or [name for name in names if name.endswith("loss")] or names[:1]


def _means(group: Sequence[History], name: str) -> dict[int, Mean]:
    """By step, the mean of a metric over the histories that have it there."""
    values: dict[int, list[float]] = {}
    for rows in group:
        for step, value in {row["step"]: row[name] for row in rows if isinstance(row.get(name), int | float)}.items():
            values.setdefault(step, []).append(value)
    return {step: interval(values[step]) for step in sorted(values)}


def _draw(axes: Axes, label: str, means: Mapping[int, Mean], number: int) -> None:
    """One group's line, and its band where there is one; a single step is a point with its interval."""
    colour, line = _COLOURS[number % len(_COLOURS)], _LINES[number // len(_COLOURS) % len(_LINES)]
    steps, values = list(means), list(means.values())
    low = [math.nan if v.low is None else v.low for v in values]
    high = [math.nan if v.high is None else v.high for v in values]
    if len(steps) == 1:
        reach = [[values[0].mean - low[0]], [high[0] - values[0].mean]]
        axes.errorbar(steps, [values[0].mean], reach, label=label, color=colour, fmt="o", markersize=4, capsize=4)
        return
    axes.plot(steps, [v.mean for v in values], line, label=label, color=colour, linewidth=1.2)
    if any(v.low is not None for v in values):
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)


def _look_at_lines(axes: Axes) -> None:
    """Cut off wide bands (two seeds give an interval of 25 standard errors) where they would flatten the lines."""
    import numpy as np

    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = np.concatenate([line for line in lines if line.size > 1] or [np.empty(0)])
    values = values[np.isfinite(values)]
    if values.size and (span := float(np.ptp(values))):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, float(values.min()) - span / 2), min(high, float(values.max()) + span / 2))


def _explain(figure: Figure, averaged: bool) -> None:
    """One legend for all panels, below them, in room of its own."""
    drawn = [axes.get_legend_handles_labels() for axes in figure.axes]
    entries = {label: line for lines, labels in drawn for line, label in zip(lines, labels, strict=True)}
    width, height = figure.get_size_inches()
    columns = min(len(entries), max(1, int(width * 12 / (max(map(len, entries), default=0) + 8))))
    figure.set_figheight(height + 0.18 * (math.ceil(len(entries) / max(1, columns)) + averaged))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=3,
        title="mean and 95% interval" if averaged else None,
        title_fontsize=8,
    )
