"""Hooks: who is told what, and what happens to a listener that fails. Broken installed hooks are in test_plugins.py."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from metaloop.errors import PluginError
from metaloop.hooks import Hooks, hookimpl, load_hooks
from metaloop.manifest import Plugin
from metaloop.plugins import registered

RUN: Any = "the run"  # hooks pass it on and never look into it


class Recorder:
    """Hears every event, each with all that it says."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    @hookimpl
    def run_started(self, run: Any) -> None:
        self.heard.append(("run_started", run))

    @hookimpl
    def steps_ended(self, run: Any, rows: Any) -> None:
        self.heard.append(("steps_ended", run, rows))

    @hookimpl
    def checkpoint_saved(self, run: Any, step: int, path: Path) -> None:
        self.heard.append(("checkpoint_saved", run, step, path))

    @hookimpl
    def artifact_saved(self, run: Any, path: Path) -> None:
        self.heard.append(("artifact_saved", run, path))

    @hookimpl
    def run_ended(self, run: Any, status: str, summary: Any) -> None:
        self.heard.append(("run_ended", run, status, summary))


class Choosy:
    """Takes one argument of three."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    @hookimpl
    def run_ended(self, status: str) -> None:
        self.statuses.append(status)


class Failing:
    """Breaks at the first batch of rows."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    @hookimpl
    def steps_ended(self) -> None:
        self.calls += 1
        raise self.error

    @hookimpl
    def run_ended(self) -> None:
        self.calls += 1


def tell_all(hooks: Hooks) -> list[tuple[Any, ...]]:
    """A run's events in their order; what a listener to all of them hears."""
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    hooks.run_started(RUN)
    hooks.steps_ended(RUN, rows)
    hooks.checkpoint_saved(RUN, 2, Path("checkpoints/2"))
    hooks.artifact_saved(RUN, path=Path("curves.png"))
    hooks.run_ended(RUN, status="finished", summary={"loss": 0.25})
    return [
        ("run_started", RUN),
        ("steps_ended", RUN, rows),
        ("checkpoint_saved", RUN, 2, Path("checkpoints/2")),
        ("artifact_saved", RUN, Path("curves.png")),
        ("run_ended", RUN, "finished", {"loss": 0.25}),
    ]


def test_every_listener_hears_what_it_asked_for() -> None:
    first, second, choosy = Recorder(), Recorder(), Choosy()
    told = tell_all(Hooks(extra=(first, choosy, second)))
    assert first.heard == second.heard == told
    assert choosy.statuses == ["finished"]


@pytest.mark.parametrize("error", [RuntimeError("server\nis gone"), SystemExit("no")])
def test_a_failing_hook_is_reported_once_and_the_run_goes_on(error: BaseException) -> None:
    before, failing, after = Recorder(), Failing(error), Recorder()
    hooks = Hooks(extra=(before, failing, after))
    with pytest.warns(RuntimeWarning, match=r"'Failing .*steps_ended failed: \w+: (server is gone|no)\.$") as caught:
        told = tell_all(hooks)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_all(hooks)
    assert failing.calls == 1
    assert before.heard == after.heard == told * 2
    (why,) = hooks.failed.values()
    assert "steps_ended" in why


def test_ctrl_c_in_a_hook_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        tell_all(Hooks(extra=(Failing(KeyboardInterrupt()),)))


def test_a_failure_counts_for_one_run_only() -> None:
    failing = Failing(RuntimeError())
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="steps_ended"):
            tell_all(Hooks(extra=(failing,)))
    assert failing.calls == 2


class Misspelt:
    @hookimpl
    def run_strated(self, run: Any) -> None: ...


class WrongArgument:
    @hookimpl
    def run_ended(self, outcome: str) -> None: ...


class Unmarked(Choosy):
    def run_started(self, run: Any) -> None: ...


class NoHooks: ...


class CannotBegin(Recorder):
    def __init__(self) -> None:
        raise RuntimeError("no server")


WRONG = [
    (Misspelt, ["'run_strated'", "Did you mean 'run_started'?"]),
    (WrongArgument, ["run_ended", "outcome"]),
    (Unmarked, ["run_started", "hookimpl"]),
    (NoHooks, ["hookimpl", "run_started"]),
]


@pytest.mark.parametrize(("listener", "pieces"), WRONG)
def test_a_wrong_listener_of_ones_own_is_refused(listener: type, pieces: list[str]) -> None:
    with pytest.raises(PluginError) as caught:
        Hooks(extra=(listener(),))
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)


@pytest.mark.parametrize(("listener", "pieces"), [*WRONG, (CannotBegin, ["RuntimeError: no server"])])
def test_a_plugin_with_wrong_hooks_is_left_out(listener: type, pieces: list[str]) -> None:
    heard = Recorder()
    wrong = Plugin("wrong", "its hooks are wrong", hooks=f"{__name__}:{listener.__name__}")
    with registered(wrong), pytest.warns(RuntimeWarning, match="The hooks of 'wrong' can't be used"):
        hooks = load_hooks(extra=(heard,))
    assert all(piece in hooks.failed["wrong"] for piece in pieces), hooks.failed["wrong"]
    assert heard.heard == tell_all(hooks)


def test_a_plugin_names_a_module_an_object_or_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("listening_module")
    module.heard = []  # type: ignore[attr-defined]

    @hookimpl
    def run_ended(status: str) -> None:
        module.heard.append(status)

    module.run_ended = run_ended  # type: ignore[attr-defined]
    module.one = Choosy()  # type: ignore[attr-defined]
    made: list[Choosy] = []

    class Each(Choosy):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    module.Each = Each  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "listening_module", module)
    targets = ("listening_module", "listening_module:one", "listening_module:Each")
    for number, target in enumerate(targets):
        with registered(Plugin(f"p{number}", "", hooks=target)):
            for _ in range(2):
                load_hooks().run_ended(RUN, "finished", {})
    assert module.heard == ["finished"] * 2
    assert module.one.statuses == ["finished"] * 2
    assert [listener.statuses for listener in made] == [["finished"]] * 2  # a class: a new listener for each run
