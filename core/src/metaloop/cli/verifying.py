"""`metaloop verify`."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloop import disk, plugins
from metaloop.cli import options, output
from metaloop.cli.guard import BROKE, Interrupted, guarded
from metaloop.errors import UserError
from metaloop.plugins import PluginRecord
from metaloop.ranks import refuse

if TYPE_CHECKING:
    from metaloop.claims import Claim, ClaimProgress, VerifyReport
    from metaloop.executors import Executor
    from metaloop.hooks import Hooks
    from metaloop.store import Run

JUDGED = "judged.jsonl"
"""In a run's folder: the claims judged so far, a result in each line."""


@guarded
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A paper's plugin.", show_default=False)],
    claim: Annotated[
        list[str] | None, typer.Option("--claim", metavar="ID", help="Only this claim; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="Seeds for every claim, instead of its own.", show_default=False),
    ] = None,
    first_seed: Annotated[
        int | None,
        typer.Option("--first-seed", min=0, help="Judge on this seed and those that follow.", show_default=False),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The recorded measurement: up to an hour.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write claims.json and claims.md beside the plugin's source.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Where --record writes.", show_default=False)
    ] = None,
    broken: Annotated[bool, typer.Option("--broken", help="Break the treatments, to see the claims fail.")] = False,
    device: options.Device = None,
    executor: options.Executor = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
    tracking_uri: options.TrackingUri = None,
    traceback: options.Traceback = False,
) -> None:
    """Measure a paper's claims over seeds and judge them; exit code 1 where one fails."""
    refuse("verify", "leave torchrun out")
    claims, plugin = _claims(name)
    folder = _record_folder(plugin, into) if record or into else None
    if folder and (broken or claim):
        raise UserError("--record is for all claims, measured as they are: leave out --claim and --broken.")
    from metaloop.claims import FIRST_JUDGED_SEED
    from metaloop.experiment import usable_device

    settings: dict[str, Any] = {
        "seeds": seeds,
        "first_seed": FIRST_JUDGED_SEED if first_seed is None else first_seed,
        "full": full,
        "only": claim or [],
        "device": str(usable_device(device or "auto")),
        "broken": broken,
        "executor": _where(executor),
    }
    report, run = _tracked(claims, plugin, settings, runs, quiet or as_json)
    if folder:
        from metaloop import claims as records

        path = records.record(report, folder)
        output.say(f"recorded in {path}")
    _print(report, run, quiet, as_json)
    if report.failed:
        raise typer.Exit(BROKE)


def _claims(name: str) -> tuple[tuple[Claim, ...], PluginRecord]:
    """The claims of a plugin."""
    plugin = plugins.get_plugin(name)
    if plugin.plugin is None:
        raise UserError(f"Plugin {plugin.label} is {plugin.status}: {plugin.error}.")
    if plugin.plugin.claims is None:
        have = ", ".join(record.name for record in plugins.discover() if record.plugin and record.plugin.claims)
        raise UserError(f"Plugin {name!r} has no claims; those that have: {have or 'none'}.")
    found: Any = plugins.load(plugin.plugin.claims, plugin)
    return tuple(found), plugin


def _where(executor: str | None) -> Executor:
    from metaloop.cli.running import named_executor
    from metaloop.executors import Executor, InProcess

    return InProcess() if executor is None else Executor.model_validate(named_executor(executor))


def _record_folder(plugin: PluginRecord, into: Path | None) -> Path:
    """Where the record goes: the folder asked for, the source of an editable plugin, else a folder here."""
    return into or plugins.source_folder(plugin) or Path(f"claims-{plugin.name}")


def _tracked(
    claims: tuple[Claim, ...], plugin: PluginRecord, settings: dict[str, Any], root: Path | None, quiet: bool
) -> tuple[VerifyReport, Run]:
    """The report, measured as a run of its own, so that it is stored and trackers hear of it."""
    from metaloop.claims import verify as measure
    from metaloop.hooks import load_hooks
    from metaloop.loop import broke, started
    from metaloop.provenance import command_line
    from metaloop.store import Run

    _check_ids(claims, settings)
    config = {"component": "verify", "plugin": plugin.name, **settings}
    config["executor"] = settings["executor"].model_dump(mode="json")
    target = plugin.plugin.claims if plugin.plugin else None
    run = Run.create(config, name=f"verify-{plugin.name}", root=root, kind="verify")
    with run.lock():
        hooks = load_hooks()
        started(run, hooks)
        try:
            with _progress(plugin.name, quiet) as told, _log(run):
                command = shlex.join(["metaloop", *command_line()[1:]])
                kept = _keeping(run, told)
                report = measure(claims, on_progress=kept, command=command, target=target, **settings)
            _store(report, run, hooks)
        except BaseException as error:
            broke(run, hooks, error)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(_what_is_left(run)) from None
            raise
    return report, run


def _keeping(run: Run, told: Callable[[ClaimProgress], None]) -> Callable[[ClaimProgress], None]:
    """Also append each result to the run's folder as it is judged: a kill loses only what is in work."""

    def keep(progress: ClaimProgress) -> None:
        if progress.result is not None:
            disk.append(run.path / JUDGED, f"{progress.result.model_dump_json()}\n".encode())
        told(progress)

    return keep


def _what_is_left(run: Run) -> str:
    path = run.path / JUDGED
    return f"Interrupted; the claims judged so far are in {path}." if path.exists() else "Interrupted: none was judged."


def _check_ids(claims: tuple[Claim, ...], settings: dict[str, Any]) -> None:
    """Refuse an unknown claim before a run is made."""
    from metaloop.errors import UnknownName

    known = [claim.id for claim in claims]
    for id in settings["only"]:
        if id not in known:
            raise UnknownName(f"No claim is called {id!r}; there are {', '.join(known)}.{plugins.nearest(id, known)}")


def _store(report: VerifyReport, run: Run, hooks: Hooks) -> None:
    from metaloop.claims import markdown

    for name, content in (("claims.json", f"{report.to_json()}\n"), ("claims.md", markdown(report))):
        path = run.artifact(name)
        disk.replace(path, content.encode())
        hooks.artifact_saved(run=run, path=path)
    summary = {"failed": report.failed} | {result.id: _numbers(result) for result in report.results}
    run.write_result(summary)
    run.set_status("finished")
    hooks.run_ended(run=run, status="finished", summary=summary)


def _numbers(result: Any) -> dict[str, Any]:
    return {name: getattr(result, name) for name in ("verdict", "estimate", "low", "high", "n", "seconds")}


def _print(report: VerifyReport, run: Run, quiet: bool, as_json: bool) -> None:
    from metaloop.claims import render

    screen = output.console()
    if as_json:
        output.print_json({"run": run.id, "path": str(run.path), **json.loads(report.to_json())})
    elif quiet:
        screen.print(str(run.path), soft_wrap=True)
    else:
        screen.print(render(report))
        screen.print(f"run: {run.path}", soft_wrap=True)


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Any]:
    """A bar over claims, with what the one in work says about itself."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen = output.console(stderr=True)
    shown = not quiet and (screen.is_terminal or screen.is_jupyter)
    columns = TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[note]}", markup=False)
    with Progress(*columns, TimeElapsedColumn(), console=screen, disable=not shown, transient=True) as bar:
        task = bar.add_task(name, total=1.0, note="")

        judged = 0

        def told(progress: ClaimProgress) -> None:
            nonlocal judged
            judged += progress.result is not None
            part = 0.0 if progress.result else progress.fraction or 0.0
            bar.update(
                task, completed=(judged + part) / progress.total, note=f"{progress.claim.id}: {progress.description}"
            )

        yield told


@contextmanager
def _log(run: Run) -> Iterator[None]:
    """What metaloop logs meanwhile (the traceback of a measure that broke) goes to the run's folder."""
    logger = logging.getLogger("metaloop")
    file = logging.FileHandler(run.path / "log.txt", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before, logger.propagate = logger.propagate, False
    logger.addHandler(file)
    try:
        yield
    finally:
        logger.removeHandler(file)
        logger.propagate = before
        file.close()
