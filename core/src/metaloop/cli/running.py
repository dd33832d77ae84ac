"""`metaloop run` and `metaloop resume`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloop import plugins
from metaloop.cli import options, output
from metaloop.cli.guard import guarded
from metaloop.errors import UnknownName, UserError

if TYPE_CHECKING:
    from metaloop.compose import Runnable
    from metaloop.overrides import Change
    from metaloop.store import Run

Several = list[str]


@guarded
def run(
    target: Annotated[
        str, typer.Argument(metavar="NAME|FILE.yaml", help="A plugin's job or a run file.", show_default=False)
    ],
    profile: Annotated[
        str | None, typer.Option("--profile", help="cpu (small, the default) or gpu (the paper's).", show_default=False)
    ] = None,
    settings: Annotated[
        Several | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="The (first) seed.", show_default=False)] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Run so many seeds.", show_default=False)] = None,
    sweep: Annotated[
        Several | None,
        typer.Option("--sweep", metavar="PATH=A,B,...", help="Run every value; several: all combinations."),
    ] = None,
    budget: Annotated[
        Several | None,
        typer.Option("--budget", metavar="evaluations=N|inner_steps=N", help="Stop once so much is spent."),
    ] = None,
    max_time: options.MaxTime = None,
    device: options.Device = None,
    executor: options.Executor = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the run.", show_default=False)] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Run nothing: print the composition as a run file.")] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
    tracking_uri: options.TrackingUri = None,
    traceback: options.Traceback = False,
) -> None:
    """Run a paper's job, or what a run file describes."""
    from metaloop.cli.executing import execute

    seconds = options.seconds(max_time)
    thing = _source(target, profile)
    own = {"seed": seed, "device": device, "name": name}
    changes = [(path, value) for path, value in own.items() if value is not None]
    swept = seeds is not None or bool(sweep)
    thing = _changed(thing, settings or [], [*changes, *map(_budget, budget or [])], None if swept else executor)
    if swept:
        thing = _swept(thing, seeds or 1, sweep or [], executor)
    if dry:
        _print_dry(thing, as_json)
        return
    _mention_broken(quiet)
    execute(thing, root=runs, max_seconds=seconds, quiet=quiet, as_json=as_json)


@guarded
def resume(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, its folder, or 'last'.")
    ],
    max_time: options.MaxTime = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
    tracking_uri: options.TrackingUri = None,
    traceback: options.Traceback = False,
) -> None:
    """Go on with a run that was stopped, killed or broke."""
    from metaloop.store import Run

    seconds = options.seconds(max_time)
    found = Run.open(run_id, runs)
    info = found.info
    if found.status == "finished":
        _say_finished(found, as_json)
        return
    if info["kind"] not in ("experiment", "pipeline", "sweep"):
        whole = f": resume {info['parent']}" if info.get("parent") else ", only run again"
        raise UserError(f"{found.id} is a {info['kind']}, which can't be resumed by itself{whole}.")
    from metaloop import compose
    from metaloop.cli.executing import execute

    try:
        thing = compose.from_document(info["config"])
    except UserError as error:
        error.args = (f"Run {found.id} can't be resumed here: {error}",)
        raise
    _warn_of_versions(found)
    execute(thing, run=found, max_seconds=seconds, quiet=quiet, as_json=as_json)


def _source(target: str, profile: str | None) -> Runnable:
    """The composition that the command names."""
    from metaloop import compose

    if not (target.endswith((".yaml", ".yml")) or Path(target).is_file()):
        return compose.from_job(target, profile)
    if profile is not None:
        raise UserError(f"--profile {profile} is for jobs; {target} is a run file, which says everything itself.")
    return compose.from_file(target)


def _changed(thing: Runnable, settings: Several, changes: list[Change], executor: str | None) -> Runnable:
    """The composition with what the options ask for."""
    from metaloop.overrides import override, parse
    from metaloop.sweep import Sweep

    inner = "base." if isinstance(thing, Sweep) else ""
    if inner and any(path == "seed" for path, _ in changes):
        raise UserError("--seed is for a single run; a sweep has --set seeds=[...].")
    of_root = ("name",)
    asked = [parse(setting) for setting in settings]
    asked += [(path if path in of_root else f"{inner}{path}", value) for path, value in changes]
    if executor is not None:
        asked += [(path, named_executor(executor)) for path in _executor_paths(thing)]
    return override(thing, asked) if asked else thing


def _executor_paths(thing: Runnable) -> list[str]:
    """Where a composition has an executor."""
    from metaloop.pipeline import Pipeline

    if not isinstance(thing, Pipeline):
        return ["executor"]
    return [f"{name}.executor" for name, stage in thing.stages.items() if "executor" in type(stage).model_fields]


def named_executor(text: str) -> dict[str, Any]:
    """An executor by its id, or by a mapping with its fields too.

    Those of the core may go by their last part, and the only one of a plugin by the plugin's name.
    """
    from metaloop import yamltext

    value = yamltext.load(text, "--executor")
    asked = value if isinstance(value, dict) else {"component": value}
    name = str(asked.get("component"))
    offered = plugins.parts("executor")
    known = {part.id: part.id for part, _ in offered}
    known |= {id.removeprefix("core/"): id for id in known if id.startswith("core/")}
    owners = Counter(record.name for _, record in offered)
    known |= {record.name: part.id for part, record in offered if owners[record.name] == 1}
    if name not in known:
        raise UnknownName(f"No executor is called {name!r}.{plugins.nearest(name, known)}")
    return {**asked, "component": known[name]}


def _budget(text: str) -> Change:
    kind, _, amount = text.partition("=")
    if kind not in ("evaluations", "inner_steps") or not amount.isdecimal() or not int(amount):
        raise UserError(f"--budget {text!r} is none: write evaluations=N or inner_steps=N.")
    return f"max_{kind}", int(amount)


def _swept(thing: Runnable, seeds: int, sweep: Several, executor: str | None) -> Runnable:
    """The composition under several seeds and settings."""
    from metaloop.component import Options
    from metaloop.overrides import parse_values
    from metaloop.sweep import Sweep

    if isinstance(thing, Sweep):
        raise UserError(f"{thing.name} is a sweep already: change it with --set grid=... and --set seeds=...")
    values: dict[str, Any] = {}
    for path, choices in map(parse_values, sweep):
        if path in values:
            raise UserError(f"--sweep names {path} twice: give all its values at once.")
        values[path] = choices
    where = {} if executor is None else {"executor": named_executor(executor)}
    every = tuple(range(thing.seed, thing.seed + seeds))
    return Sweep.model_validate({"name": thing.name, "base": thing, "grid": Options(values), "seeds": every, **where})


def _print_dry(thing: Runnable, as_json: bool) -> None:
    from metaloop import compose

    document = compose.to_document(thing)
    try:
        compose.from_document(document)
    except UserError as error:
        output.say(f"This can't be run from a file: {error}", "warning", "yellow")
    if as_json:
        output.print_json(document)
    else:
        typer.echo(compose.to_yaml(thing), nl=False)


def _mention_broken(quiet: bool) -> None:
    """One line about plugins that can't be used, however many there are."""
    broken = [record.name for record in plugins.discover() if record.status not in ("ok", "blocked")]
    if broken and not quiet:
        output.say(f"not loaded: {', '.join(sorted(set(broken)))} ('metaloop doctor' says why)", "warning", "yellow")


def _say_finished(run: Run, as_json: bool) -> None:
    from metaloop.cli.closing import as_document

    if as_json:
        output.print_json(as_document(run))
    else:
        output.say(f"{run.id} is finished already: {run.path}")


def _warn_of_versions(run: Run) -> None:
    """Say which of the packages that a run needs have changed since."""
    before, now = run.info.get("versions") or {}, plugins.versions()
    used = {"metaloop", "torch"} | {plugins.get_plugin(name).distribution for name in _plugins_in(run.config)}
    changed = [
        f"{name} {before.get(name, 'none')} is now {now.get(name, 'none')}"
        for name in sorted(used - {""})
        if before.get(name) != now.get(name)
    ]
    if changed:
        output.say(f"{run.id} goes on under other versions: {', '.join(changed)}", "warning", "yellow")


def _plugins_in(document: Any) -> set[str]:
    """The names of the plugins whose components a document names."""
    if isinstance(document, dict):
        own = {str(document["component"]).partition("/")[0]} if "/" in str(document.get("component")) else set()
        return own.union(*map(_plugins_in, document.values()))
    return set().union(*map(_plugins_in, document)) if isinstance(document, list) else set()
