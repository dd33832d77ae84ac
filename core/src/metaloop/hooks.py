"""What plugins may be told about a run's life: pluggy hooks, each plugin on its own.

A plugin marks functions with `hookimpl` and names their module or object in its `SPEC`:

    from metaloop.hooks import hookimpl

    @hookimpl
    def run_ended(run, status):
        print(run, status)

An implementation takes the arguments it wants, by name. Hooks only listen: what they return is dropped, and one that
raises switches off its plugin's hooks for the rest of the run, while the run goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from metaloop.errors import PluginError
from metaloop.plugins import PluginRecord, discover, load, nearest, reason

if TYPE_CHECKING:
    from metaloop.store import Run

PROJECT = "metaloop"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """Who listens to one run; calling an event's method tells every listener.

    Starts with the *extra* objects only: `load_hooks` adds what plugins bring. A class instead of an object is
    instantiated, so that it can keep what belongs to this run. Raises PluginError where one of them is no listener.
    """

    def __init__(self, extra: Sequence[object] = ()) -> None:
        self.failed: dict[str, str] = {}
        """Plugin (or extra object) -> why its hooks are not used (any more): "can't be used: ..."."""
        # One manager each: pluggy stops at the first exception, and what one listener raises must not reach others.
        self._managers: dict[str, pluggy.PluginManager] = {}
        for number, listener in enumerate(extra):
            name = f"{getattr(listener, '__name__', type(listener).__name__)} (extra {number})"
            self._managers[name] = _manager(name, listener)

    def add(self, record: PluginRecord) -> None:
        """Let a plugin's hooks listen; where they can't be used, `failed` and a warning say why."""
        if record.plugin is None or record.plugin.hooks is None:
            return
        try:
            self._managers[record.name] = _manager(record.name, load(record.plugin.hooks))
        except (Exception, SystemExit) as error:
            self._give_up(record.name, f"can't be used: {reason(error)}")

    @hookspec
    def run_started(self, run: Run) -> None:
        """A run begins or is resumed; its folder and config are there."""
        self._tell("run_started", run=run)

    @hookspec
    def steps_ended(self, run: Run, rows: Sequence[Mapping[str, object]]) -> None:
        """Outer steps ended: their rows of metrics, as they are written to the run, several at a time."""
        self._tell("steps_ended", run=run, rows=rows)

    @hookspec
    def checkpoint_saved(self, run: Run, step: int, path: Path) -> None:
        """A checkpoint is complete in the folder *path*; it may be pruned later."""
        self._tell("checkpoint_saved", run=run, step=step, path=path)

    @hookspec
    def artifact_saved(self, run: Run, path: Path) -> None:
        """A picture, table or other file of the run is complete at *path*."""
        self._tell("artifact_saved", run=run, path=path)

    @hookspec
    def run_ended(self, run: Run, status: str, summary: Mapping[str, object]) -> None:
        """A run ended, in whatever way *status* says; *summary* holds its closing numbers."""
        self._tell("run_ended", run=run, status=status, summary=summary)

    def _tell(self, event: str, **arguments: object) -> None:
        for name, manager in tuple(self._managers.items()):
            try:
                getattr(manager.hook, event)(**arguments)
            except (Exception, SystemExit) as error:
                del self._managers[name]
                self._give_up(name, f"are off for the rest of this run, because {event} failed: {reason(error)}")

    def _give_up(self, name: str, why: str) -> None:
        self.failed[name] = why
        warnings.warn(f"The hooks of {name!r} {why}.", RuntimeWarning, stacklevel=4)


def load_hooks(extra: Sequence[object] = ()) -> Hooks:
    """The hooks of all usable plugins and of *extra* objects, for one run."""
    hooks = Hooks(extra)
    for record in discover():
        hooks.add(record)
    return hooks


_EVENTS = tuple(name for name, method in vars(Hooks).items() if hasattr(method, f"{PROJECT}_spec"))


def _manager(name: str, listener: object) -> pluggy.PluginManager:
    """A manager of this listener alone; raises PluginError where it implements nothing, or something wrongly."""
    if isinstance(listener, type):
        listener = listener()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    try:
        manager.register(listener, name)
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    implemented = [caller.name for caller in manager.get_hookcallers(listener) or ()]
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        unknown = next(event for event in implemented if event not in _EVENTS)
        hint = nearest(unknown, _EVENTS).strip() or f"there are {', '.join(_EVENTS)}"
        raise PluginError(f"there is no hook {unknown!r} ({hint})") from error
    if unmarked := [event for event in _EVENTS if event not in implemented and hasattr(listener, event)]:
        raise PluginError(f"{unmarked[0]} is not marked with metaloop.hooks.hookimpl")
    if not implemented:
        raise PluginError(f"no hook is marked with metaloop.hooks.hookimpl ({', '.join(_EVENTS)})")
    return manager
