"""`metaloop compare`: the closing numbers, settings and curves of runs, side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloop.cli import options, output
from metaloop.cli.guard import guarded
from metaloop.errors import UserError

if TYPE_CHECKING:
    from metaloop.groups import Group
    from metaloop.summaries import Mean


@guarded
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Runs; a sweep stands for its points.", show_default=False)
    ],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curves (png, pdf, svg).", show_default=False)
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Which metrics; repeatable.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Every run by itself, not means over seeds.")] = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
) -> None:
    """Compare runs: closing numbers (means over seeds), the settings that differ, and their curves."""
    from metaloop import groups as of
    from metaloop.store import Run

    found = list(dict.fromkeys(Run.open(name, runs) for name in names))
    groups = of.alone(found) if each else of.grouped(found)
    if not groups:
        raise UserError("There is nothing to compare yet: no run of these sweeps has begun.")
    wanted = _wanted(groups, metric or [])
    settings = of.differing(groups)
    if as_json:
        output.print_json(_each_document(groups, settings) if each else _document(groups, settings))
    else:
        for start in range(0, len(groups), across := _across(groups)):
            beside = slice(start, start + across)
            _print(groups[beside], wanted, {path: values[beside] for path, values in settings.items()}, len(groups))
    if plot:
        _plot(plot, groups, metric or [])
        output.say(f"curves in {plot}")


def _wanted(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """The closing numbers to show, how it went before what it cost."""
    from metaloop.summaries import is_count

    known = dict.fromkeys(name for group in groups for member in group.members for name in member.numbers)
    wanted = [n for n in known if not metrics or any(n in (m, f"eval/{m}") or n.endswith(f".{m}") for m in metrics)]
    if metrics and not wanted:
        raise UserError(f"No run has a closing number called {metrics[0]!r}; there are {', '.join(known) or 'none'}.")
    return sorted(wanted, key=is_count)


def _across(groups: Sequence[Group]) -> int:
    """How many groups stand beside each other: a mean with its interval takes up to 30 columns of text."""
    wide = 30 if any(len(group.members) > 1 for group in groups) else 18
    tables = math.ceil(len(groups) / max(2, (output.console().width - 30) // wide))
    return math.ceil(len(groups) / tables)


def _print(groups: Sequence[Group], wanted: Sequence[str], settings: dict[str, list[list[Any]]], total: int) -> None:
    """One table; the paired difference beside the only two groups."""
    shared = _shared_seeds(groups) if total == 2 else []
    averaged = any(len(group.members) > 1 for group in groups)
    heads = [f"{g.label}\nn = {len(g.members)}" if averaged else g.label for g in groups]
    heads += [f"difference, same seeds\nsecond - first, n = {len(shared)}"] if shared else []
    caption = "mean over seeds and Student's 95% interval; n: seeds" if averaged else None
    table = output.table("", *heads, caption=caption)
    output.row(table, "status", *(_status(group) for group in groups), *[""] * bool(shared))
    for name in wanted:
        cells = [_cell(name, group.values(name), len(group.members)) for group in groups]
        cells += [_cell(name, _differences(groups, shared, name), len(shared))] if shared else []
        output.row(table, name, *cells)
    if settings:
        table.add_section()
    for path, values in settings.items():
        output.row(table, path, *(_listed(value) for value in values), *[""] * bool(shared), style="dim")
    output.console().print(table)


def _status(group: Group) -> str:
    """`"finished"`, or how many are what."""
    counts = Counter(member.status for member in group.members)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())


def _cell(name: str, values: Sequence[float], n: int) -> str:
    """A number, or a mean with its interval; says of how many where some runs have none."""
    from metaloop.summaries import interval

    if not values:
        return "-"
    leaf, found = name.rpartition(".")[2], interval(values)
    same = all(value == values[0] for value in values)
    text = output.quantity(leaf, values[0] if same else found.mean)
    if not same and found.low is not None and found.high is not None:
        text += f" ({output.quantity(leaf, found.low)} to {output.quantity(leaf, found.high)})"
    return text if len(values) == n else f"{text} n = {len(values)}"


def _listed(values: Iterable[Any]) -> str:
    """What a setting is in a group: one value, or those that its runs have."""
    return ", ".join(map(output.number, values)) or "-"


def _shared_seeds(groups: Sequence[Group]) -> list[Any]:
    """The seeds that both of two groups have, if they are several."""
    first, second = ([member.seed for member in group.members] for group in groups)
    shared = [seed for seed in first if seed is not None and seed in second]
    return shared if len(shared) > 1 else []


def _differences(groups: Sequence[Group], seeds: Iterable[Any], name: str) -> list[float]:
    """The second group's number less the first's, seed by seed."""
    first, second = ({member.seed: member.numbers.get(name) for member in group.members} for group in groups)
    pairs = ((first[seed], second[seed]) for seed in seeds)
    return [after - before for before, after in pairs if before is not None and after is not None]


def _document(groups: Sequence[Group], settings: dict[str, list[list[Any]]]) -> dict[str, Any]:
    from metaloop.summaries import interval

    found: dict[str, Any] = {
        "groups": [
            {
                "label": group.label,
                "n": len(group.members),
                "metrics": _plain(group.means()),
                "runs": [
                    {"run": m.run.id, "status": m.status, "seed": m.seed, "summary": m.numbers} for m in group.members
                ],
            }
            for group in groups
        ],
        "settings": {path: [v[0] if len(v) == 1 else v or "-" for v in row] for path, row in settings.items()},
    }
    if len(groups) == 2 and (shared := _shared_seeds(groups)):
        differences = {name: _differences(groups, shared, name) for name in groups[0].means()}
        means = {name: interval(values) for name, values in differences.items() if values}
        found["difference"] = {"of": "second - first, same seeds", "seeds": shared, "metrics": _plain(means)}
    return found


def _plain(means: dict[str, Mean]) -> dict[str, dict[str, Any]]:
    return {name: mean._asdict() for name, mean in means.items()}


def _each_document(groups: Sequence[Group], settings: dict[str, list[list[Any]]]) -> dict[str, Any]:
    members = [member for group in groups for member in group.members]
    return {
        "runs": [{"run": m.run.id, "status": m.status, "summary": m.numbers} for m in members],
        "settings": {path: [value[0] if value else "-" for value in row] for path, row in settings.items()},
    }


def _plot(file: Path, groups: Sequence[Group], metrics: list[str]) -> None:
    from metaloop.plotting import bands, histories

    found = histories(groups)
    if not found:
        raise UserError("There are no curves to draw: no step of these runs was logged yet.")
    figure = bands(found, metrics)
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"The curves can't be written to {file}: {error}.") from error
