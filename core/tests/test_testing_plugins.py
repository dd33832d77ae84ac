"""The plugin checks: whole plugins pass, and each false declaration trips exactly the checks for it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from metaloop import plugins, testing
from metaloop.claims import Claim, Identity, Sample
from metaloop.errors import PluginError, UnknownName
from metaloop.experiment import Experiment
from metaloop.manifest import Job, Part, Plugin
from metaloop.pipeline import Pipeline
from metaloop.testing.toys import TOYS, Climb, Words

HERE = __name__
JOB = Job(
    "toys", f"{HERE}:job", dry=(("learner.steps", 2), ("tasks.letters", 1), ("eval_tasks", 1)), profiles=("cpu", "gpu")
)


def job(profile: str) -> Experiment:
    large = profile == "gpu"
    return Experiment(tasks=Words(letters=9 if large else 3), learner=Climb(steps=900 if large else 5))


def pipeline(profile: str) -> Pipeline:
    return Pipeline(stages={"first": job(profile), "second": lambda context: {}})


def number(profile: str) -> int:
    return 3


def fails(profile: str) -> Experiment:
    return job(profile).but(task_batch=0)


def claim(id: str) -> Claim:
    return Claim(id, "one is one", "nowhere", "1", lambda setting: Sample([1.0], [1.0]), Identity(0.0))


CLAIMS = (claim("C1"), claim("C2"))
TWICE = (claim("C1"), claim("C1"))
NO_CLAIMS = (1,)


class Outer:
    class Inner(Words):
        pass


RENAMED = Words
PART = Part("toys/more", "tasks", "metaloop.testing.toy_tasks:Words")
PIPELINE = Job("toys/pipeline", f"{HERE}:pipeline", dry=(("stages.first.learner.steps", 1),))
WHOLE = replace(TOYS, jobs=(JOB, PIPELINE), claims=f"{HERE}:CLAIMS")


def with_part(**changes: Any) -> Plugin:
    return Plugin("toys", "one part", components=(replace(PART, **changes),))


def with_job(**changes: Any) -> Plugin:
    return Plugin("toys", "one job", jobs=(replace(JOB, **changes),))


FOR_CPU, FOR_GPU, DRY = "job toys builds for cpu", "job toys builds for gpu", "job toys has a dry form"


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (WHOLE, set()),
        (with_part(), set()),
        (Plugin("toys", "an id kept for old run files", components=(PART, replace(PART, id="toys/old"))), set()),
        (with_part(id="others/words"), {"declaration_is_valid", "targets_resolve"}),
        (with_part(kind="learner"), {"kinds_are_right"}),
        (with_part(target=f"{HERE}:RENAMED"), {"targets_resolve"}),
        (with_part(target=f"{HERE}:Outer.Inner"), set()),
        (
            with_job(target=f"{HERE}:number"),
            {FOR_CPU, FOR_GPU, DRY},
        ),
        (with_job(target=f"{HERE}:fails", dry=()), {FOR_CPU, FOR_GPU}),
        (with_job(dry=(("learner.width", 2),)), {DRY}),
        (with_job(dry=(("learner.steps", -1),)), {DRY}),
        (Plugin("toys", ""), {"declaration_is_valid"}),
        (Plugin("toys", "claims", claims=f"{HERE}:TWICE"), {"claims_are_claims"}),
        (Plugin("toys", "claims", claims=f"{HERE}:NO_CLAIMS"), {"claims_are_claims"}),
        (Plugin("toys", "claims", claims=f"{HERE}:NOT_THERE"), {"claims_are_claims"}),
        (Plugin("toys", "hooks", hooks="metaloop.no_such_module"), {"hooks_can_be_imported"}),
    ],
)
def test_a_false_declaration_trips_exactly_its_checks(plugin: Plugin, expected: set[str]) -> None:
    results = testing.check_plugin(plugin, on_fail="return")
    assert {r.name for r in results if not r.ok} == expected, [r for r in results if not r.ok]
    assert all(record.plugin != plugin for record in plugins.discover())


def test_an_installed_plugin_is_checked_by_name() -> None:
    names = [result.name for result in testing.check_plugin("core")]
    assert {"spec_is_light", "core/process-pool json_round_trip"} <= set(names)


@pytest.mark.parametrize(("line", "expected"), [("import json", set()), ("import numpy", {"spec_is_light"})])
def test_a_heavy_declaration_is_noticed(
    line: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{line}\nfrom metaloop.manifest import Plugin\nSPEC = Plugin('weighty', 'a test')\n"
    name = f"weighty_{len(expected)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    results = testing.check_plugin(importlib.import_module(name).SPEC, on_fail="return")
    assert "spec_is_light" in {r.name for r in results}
    assert {r.name for r in results if not r.ok} == expected


def test_an_unknown_or_broken_plugin_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'core'"):
        testing.check_plugin("coer")
    record = plugins.PluginRecord("bad", "metaloop-bad", "1.0", "broken", error="it needs x")
    monkeypatch.setattr(plugins, "get_plugin", lambda name: record)
    with pytest.raises(PluginError, match="is broken: it needs x"):
        testing.check_plugin("bad")
