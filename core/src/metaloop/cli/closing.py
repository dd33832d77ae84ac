"""What is printed when a run has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metaloop.cli import output
from metaloop.store import runs_root
from metaloop.summaries import is_count, numbers

if TYPE_CHECKING:
    from rich.table import Table

    from metaloop.pipeline import PipelineResult
    from metaloop.result import Result
    from metaloop.store import Run
    from metaloop.sweep import SweepResult


def as_document(run: Run) -> dict[str, Any]:
    """A run as plain values: `--json`."""
    return {
        "run": run.id,
        "path": str(run.path),
        "kind": run.info["kind"],
        "status": run.status,
        "summary": run.result() or {},
        "artifacts": [str(path) for path in run.artifacts()],
    }


def handle(run: Run) -> str:
    """What to call a run on the command line: its id, or its folder where runs are kept elsewhere."""
    return run.id if run.path.is_relative_to(runs_root()) else str(run.path)


def show(result: Result | PipelineResult | SweepResult) -> None:
    """The closing table, the artifacts, and where the run is."""
    from metaloop.pipeline import PipelineResult
    from metaloop.sweep import SweepResult

    screen, run = output.console(), result.run
    if isinstance(result, SweepResult):
        screen.print(sweep_table(result.table(), run.name))
    elif isinstance(result, PipelineResult) and result.closing:
        for renderable in result.closing:
            screen.print(renderable)
    else:
        screen.print(_summary(result.summary, run.name))
    if run.status == "stopped":
        output.say(f"The time is up; go on with: metaloop resume {handle(run)}")
    for path in run.artifacts():
        screen.print(str(path), soft_wrap=True)
    screen.print(f"run: {run.path}", soft_wrap=True)


def _summary(summary: Mapping[str, Any], name: str) -> Table:
    """The closing numbers, how it went before what it cost."""
    found = dict(numbers(summary))
    table = output.table("", "", title=name)
    table.show_header = False
    table.columns[1].justify = "right"
    for metric in sorted(found, key=is_count):
        output.row(table, metric, output.quantity(metric.rpartition(".")[2], found[metric]))
    return table


def sweep_table(points: list[dict[str, Any]], name: str) -> Table:
    """Mean and interval of every metric at every point, metric by metric."""
    paths = list(points[0]["settings"])
    caption = "mean over seeds, Student's 95% interval; n: seeds"
    table = output.table("metric", *paths, "mean", "95% interval", "n", title=name, caption=caption)
    for column in table.columns[-3:]:
        column.justify = "right"
    metrics = dict.fromkeys(metric for point in points for metric in point["metrics"] if not is_count(metric))
    for metric in metrics:
        for position, point in enumerate(points):
            settings = [_short(value) for value in point["settings"].values()]
            mean = point["metrics"].get(metric, {"mean": "-", "low": None, "high": None, "n": 0})
            low, high = mean["low"], mean["high"]
            interval = "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"
            label = metric if position == 0 else ""
            output.row(table, label, *settings, output.number(mean["mean"]), interval, mean["n"])
    return table


def _short(value: Any) -> str:
    """A setting's value in a cell; a component by its id."""
    return str(value.get("component", value)) if isinstance(value, Mapping) else output.number(value)
