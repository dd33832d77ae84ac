"""Pictures of histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metaloop.errors import UnknownName, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Sequence[str] = ()) -> Figure:
    """Curves over outer steps, one panel per metric, one line per history; the default is every loss.

    Raises:
        UserError: matplotlib is not installed.
        UnknownName: no history has such a metric.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("pictures need matplotlib: pip install 'metaloop[plot]'") from error
    known = sorted({name for rows in histories.values() for row in rows for name in row} - {"step", "time"})
    wanted = list(metrics) or [name for name in known if name.endswith("loss")] or known[:1]
    for name in wanted:
        if name not in known:
            raise UnknownName(f"no metric {name!r} in the history; there are {', '.join(known) or 'none'}")
    figure = Figure(figsize=(5.5 * max(1, len(wanted)), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, max(1, len(wanted)), squeeze=False)[0], wanted, strict=False):
        for label, rows in histories.items():
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1.2)
        axes.set_xlabel("outer step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
        if len(histories) > 1:
            axes.legend(fontsize=8)
    return figure
