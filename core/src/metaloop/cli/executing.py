"""Run a composition under the command line's eyes: keep its traceback, draw its curves, say how it ended."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from metaloop import housekeeping
from metaloop.cli import closing, output
from metaloop.cli.guard import MISTAKE, Broke, Interrupted, verdict
from metaloop.compose import Runnable
from metaloop.errors import MetaloopError, UserError
from metaloop.groups import grouped
from metaloop.hooks import Hooks, hookimpl, load_hooks
from metaloop.loop import ERROR, run_experiment
from metaloop.pipeline import Pipeline, PipelineResult
from metaloop.plugins import reason
from metaloop.result import Result
from metaloop.store import Run
from metaloop.sweep import Sweep, SweepResult

CURVES = "curves.png"


class _Watcher:
    """Listens for which run it is; at the end of an experiment or a sweep draws its curves."""

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.others: Hooks | None = None
        """Who is told about the picture."""

    @hookimpl
    def run_started(self, run: Run) -> None:
        """The outermost run starts first."""
        self.run = self.run or run

    @hookimpl
    def run_ended(self, run: Run, status: str) -> None:
        """Plugins hear of the picture before they hear of the end: listeners of the caller come first."""
        whole = status in ("finished", "stopped") or (status == "failed" and run.info["kind"] == "sweep")
        if self.others is None or not whole or not importlib.util.find_spec("matplotlib"):
            return
        from metaloop.plotting import bands, histories

        found = histories(grouped([run]))
        if not any(len({row["step"] for row in rows}) > 1 for group in found.values() for rows in group):
            return
        path = run.artifact(CURVES)
        bands(found).savefig(path, dpi=150)
        self.others.artifact_saved(run=run, path=path)


def execute(
    thing: Runnable,
    *,
    run: Run | None = None,
    root: Path | None = None,
    max_seconds: float | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Run or resume, then print how it went.

    Raises:
        Broke: the run broke; says where the traceback is.
        Interrupted: Ctrl-C; says how to go on.
        UserError, OSError: the user's mistake; a new run that got nowhere is removed again.
    """
    watcher = _Watcher(run)
    try:
        result = _run(thing, watcher, run, root, max_seconds, quiet)
    except KeyboardInterrupt:
        raise Interrupted(_how_to_go_on(watcher.run)) from None
    except Exception as error:
        _clear_away(watcher.run, new=run is None, mistake=verdict(error)[0] == MISTAKE)
        raise _explained(error, watcher.run) from error
    if as_json:
        output.print_json(closing.as_document(result.run))
    elif quiet:
        output.console().print(str(result.path), soft_wrap=True)
    else:
        closing.show(result)
    if isinstance(result, SweepResult) and result.failed:
        row = result.failed[0]
        traceback = result.path / "children" / str(row["run"]).rpartition("/")[2] / ERROR
        raise Broke(f"{len(result.failed)} of {len(result.rows)} runs broke; the first: {row['error']} ({traceback}).")


def _run(
    thing: Runnable, watcher: _Watcher, run: Run | None, root: Path | None, max_seconds: float | None, quiet: bool
) -> Result | PipelineResult | SweepResult:
    if isinstance(thing, Pipeline):
        return thing.run(run=run, root=root, max_seconds=max_seconds, quiet=quiet, hooks=(watcher,))
    watcher.others = load_hooks([watcher])
    if isinstance(thing, Sweep):
        return thing.run(run=run, root=root, max_seconds=max_seconds, quiet=quiet, hooks=watcher.others)
    return run_experiment(thing, None, run, root, max_seconds, quiet, watcher.others)


def _how_to_go_on(run: Run | None) -> str:
    return "Interrupted." if run is None else f"Interrupted. Go on with: metaloop resume {closing.handle(run)}"


def _clear_away(run: Run | None, *, new: bool, mistake: bool) -> None:
    """Remove the folder of a new run that a mistake ended before it made anything."""
    if run is None or not (new and mistake) or not run.path.exists():
        return
    made = {path.name for path in run.path.rglob("*") if path.is_file()}
    if made <= {"run.json", "lock", ERROR}:
        housekeeping.remove(run)


def _explained(error: Exception, run: Run | None) -> Exception:
    """The error, with what the run's folder has to add."""
    code, message = verdict(error)
    if run is None or not run.path.exists():
        return error
    if code == MISTAKE:
        is_of_disk = isinstance(error, OSError)
        return UserError(f"{message} Go on with: metaloop resume {closing.handle(run)}") if is_of_disk else error
    if isinstance(error, MetaloopError):
        return Broke(f"{message} The run is {run.path}.")
    return Broke(f"{run.id} broke: {reason(error)}. The full traceback is in {run.path / ERROR}.")
