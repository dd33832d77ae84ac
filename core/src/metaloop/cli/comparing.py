"""`metaloop compare`: the closing numbers, settings and curves of runs, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloop.cli import options, output
from metaloop.cli.guard import guarded
from metaloop.errors import UserError

if TYPE_CHECKING:
    from metaloop.store import Run


@guarded
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs; a sweep stands for its runs.", show_default=False)
    ],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curves (png, pdf, svg).", show_default=False)
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Which metrics; repeatable.")] = None,
    as_json: options.Json = False,
    runs: options.Runs = None,
) -> None:
    """Compare runs: closing numbers, the settings that differ, and their curves."""
    from metaloop.store import Run
    from metaloop.summaries import is_count, numbers

    found = [part for name in names for part in _spread(Run.open(name, runs))]
    labels = _labels(found)
    summaries = [dict(numbers(run.result() or {})) for run in found]
    known = dict.fromkeys(name for summary in summaries for name in summary)
    wanted = [
        name for name in known if not metric or any(name in (m, f"eval/{m}") or name.endswith(f".{m}") for m in metric)
    ]
    if metric and not wanted:
        raise UserError(f"No run has a closing number called {metric[0]!r}; there are {', '.join(known) or 'none'}.")
    settings = _differing([_settings(run) for run in found])
    if as_json:
        pairs = zip(found, summaries, strict=True)
        document = [{"run": run.id, "status": run.status, "summary": numbers_} for run, numbers_ in pairs]
        output.print_json({"runs": document, "settings": settings})
    else:
        table = output.table("", *labels)
        output.row(table, "status", *(run.status for run in found))
        for name in sorted(wanted, key=is_count):
            leaf = name.rpartition(".")[2]
            output.row(table, name, *(output.quantity(leaf, s[name]) if name in s else "-" for s in summaries))
        if settings:
            table.add_section()
        for path, values in settings.items():
            output.row(table, path, *(output.number(value) for value in values), style="dim")
        output.console().print(table)
    if plot:
        _plot(plot, dict(zip(labels, found, strict=True)), metric or [])
        output.say(f"curves in {plot}")


def _spread(run: Run) -> list[Run]:
    """The runs that stand for a run: those of a sweep, else itself."""
    return sorted(run.children(), key=lambda child: child.path.name) if run.info["kind"] == "sweep" else [run]


def _labels(runs: list[Run]) -> list[str]:
    """A name for each run: short where all belong to one sweep."""
    parents = {run.info.get("parent") for run in runs}
    return [run.id if parents == {None} or len(parents) > 1 else run.name for run in runs]


def _settings(run: Run) -> dict[str, Any]:
    """Every setting by path, and the versions it ran under."""
    info = run.info
    return dict(_leaves(info["config"])) | {f"version of {k}": v for k, v in (info.get("versions") or {}).items()}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _differing(settings: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs; "-" where a run has none of that path."""
    paths = dict.fromkeys(path for values in settings for path in values)
    rows = {path: [values.get(path, "-") for values in settings] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}


def _plot(file: Path, runs: Mapping[str, Run], metrics: list[str]) -> None:
    from metaloop.plotting import curves

    histories = {label: rows for name, run in runs.items() for label, rows in _histories(name, run)}
    if not histories:
        raise UserError("There are no curves to draw: no step of these runs was logged yet.")
    figure = curves(histories, metrics)
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"The curves can't be written to {file}: {error}.") from error


def _histories(label: str, run: Run) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The histories of a run and of the runs inside it."""
    if rows := run.history():
        yield label, rows
    for child in run.children():
        yield from _histories(f"{label}/{child.path.name}", child)
