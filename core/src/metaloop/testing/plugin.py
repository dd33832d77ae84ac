"""What every plugin promises: what its `SPEC` declares is there, and reading the `SPEC` is cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from metaloop import plugins
from metaloop._plugin_checks import verdict
from metaloop.claims import Claim
from metaloop.component import Component
from metaloop.errors import PluginError, UserError
from metaloop.experiment import Experiment
from metaloop.manifest import ENTRY_POINT_GROUP, Job, Part, Plugin
from metaloop.overrides import override
from metaloop.pipeline import Pipeline
from metaloop.testing import components
from metaloop.testing.compare import expect
from metaloop.testing.model import Case, CheckResult, OnFail, Suite, run

HEAVY = ("torch", "pydantic", "numpy")
"""What the module of a `SPEC` must not import, nor what it imports itself."""

suite = Suite["Declared"]()


@dataclass(frozen=True)
class Declared:
    """A plugin under test."""

    plugin: Plugin

    @property
    def module(self) -> str | None:
        """The module that holds the `SPEC`, where one does."""
        owner = next((r.distribution for r in plugins.discover() if r.plugin == self.plugin and r.distribution), None)
        if owner is not None:
            try:
                points = distribution(owner).entry_points.select(group=ENTRY_POINT_GROUP, name=self.plugin.name)
                return next((point.module for point in points), None)
            except PackageNotFoundError:
                return None
        holders = (name for name, module in sys.modules.items() if getattr(module, "SPEC", None) is self.plugin)
        return next(holders, None)


def cases(plugin: Plugin | str) -> Iterator[Case]:
    """The checks of a plugin, of its jobs, and of every component's `example()`.

    Raises:
        PluginError: a plugin of that name is installed, but can't be used.
        UnknownName: there is none of that name.
    """
    if isinstance(plugin, str):
        record = plugins.get_plugin(plugin)
        if record.plugin is None:
            raise PluginError(f"Plugin {record.label} is {record.status}: {record.error}.")
        plugin = record.plugin
    found = [*suite.cases(Declared(plugin))]
    for job in plugin.jobs:
        found += [(f"job {job.id} builds for {profile}", partial(_builds, job, profile)) for profile in job.profiles]
        if job.dry:
            found.append((f"job {job.id} has a dry form", partial(_builds_dry, job)))
    for part in plugin.components:
        found += [(f"{part.id} {name}", partial(_example_passes, part, name)) for name in components.suite.names()]
    yield from ((name, _offered(plugin, case)) for name, case in found)


def check_plugin(
    plugin: Plugin | str, *, expected_failures: Mapping[str, str] | None = None, on_fail: OnFail = "raise"
) -> list[CheckResult]:
    """Check what every plugin promises.

    Args:
        plugin: a declaration, or the name of an installed plugin.
        expected_failures: check name -> reason; a check named here that passes counts as failed.
        on_fail: `"raise"`, or `"return"` to have the failures among the results.

    Raises:
        CheckFailed: a check failed.
        PluginError: the plugin is installed, but can't be used.
    """
    name = plugin if isinstance(plugin, str) else plugin.name
    return run(f"plugin {name!r}", cases(plugin), expected_failures, on_fail)


def _offered(plugin: Plugin, case: Callable[[], None]) -> Callable[[], None]:
    """The case, run while the plugin is offered in this process (where it is not installed)."""

    def inside() -> None:
        present = any(record.plugin == plugin for record in plugins.discover())
        usable = verdict(plugin)[0] == "ok"  # `declaration_is_valid` reports it otherwise
        offer: AbstractContextManager[Any] = nullcontext() if present or not usable else plugins.registered(plugin)
        with offer:
            case()

    return inside


@suite.check
def declaration_is_valid(declared: Declared) -> None:
    """Ids begin with the plugin's name and occur once, targets are `module:attribute`, the API version is ours."""
    status, error = verdict(declared.plugin)
    expect(status == "ok", str(error))
    expect(bool(declared.plugin.summary.strip()), "the plugin has no summary")


@suite.when(lambda declared: declared.module is not None)
def spec_is_light(declared: Declared) -> None:
    """Importing the module of the `SPEC` in a fresh interpreter imports nothing heavy."""
    code = f"import json, sys, {declared.module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1:]
    expect(done.returncode == 0, f"{declared.module} can't be imported alone: {' '.join(last)}")
    heavy = json.loads(done.stdout)
    expect(not heavy, f"{declared.module} imports {', '.join(heavy)}: name heavy modules in strings only")


@suite.check
def targets_resolve(declared: Declared) -> None:
    """Every class is where its target says, and known by its id (the first, where an older one stays beside it)."""
    first: dict[str, str] = {}
    for part in declared.plugin.components:
        known, id = first.setdefault(part.target, part.id), plugins.id_of(plugins.resolve(part.id))
        expect(id == known, f"the class of {part.id!r} is known as {id!r}")


@suite.check
def kinds_are_right(declared: Declared) -> None:
    """Every component derives from the base of its kind."""
    for part in declared.plugin.components:
        cls, base = plugins.load(part.target), components.BASES[part.kind]
        right = isinstance(cls, type) and issubclass(cls, base)
        expect(right, f"{part.id!r} is declared as {part.kind!r}, but is no {base.__name__}")


@suite.when(lambda declared: declared.plugin.claims is not None)
def claims_are_claims(declared: Declared) -> None:
    """The target is a tuple of `Claim` whose ids occur once."""
    target = str(declared.plugin.claims)
    claims = plugins.load(target)
    right = isinstance(claims, tuple) and bool(claims) and all(isinstance(claim, Claim) for claim in claims)
    expect(right, f"{target} must be a tuple of metaloop.claims.Claim with at least one")
    ids = [claim.id for claim in claims] if isinstance(claims, tuple) else []
    twice = {id for id in ids if ids.count(id) > 1}
    expect(not twice, f"{target} has the id {', '.join(sorted(twice))} more than once")


@suite.when(lambda declared: declared.plugin.hooks is not None)
def hooks_can_be_imported(declared: Declared) -> None:
    """The hooks' target is there."""
    plugins.load(str(declared.plugin.hooks))


def _builds(job: Job, profile: str) -> None:
    _built(job, profile)


def _built(job: Job, profile: str) -> Experiment | Pipeline:
    make = plugins.load(job.target)
    expect(callable(make), f"{job.target} is not a function")
    assert callable(make)
    built = make(profile)
    right = isinstance(built, Experiment | Pipeline)
    expect(right, f"{job.target} gives a {type(built).__name__}, not an Experiment or a Pipeline")
    assert isinstance(built, Experiment | Pipeline)
    return built


def _builds_dry(job: Job) -> None:
    """The last profile is the largest, usually `gpu`."""
    built = _built(job, "gpu" if "gpu" in job.profiles else job.profiles[-1])
    try:
        override(built, job.dry)
    except UserError as error:
        raise AssertionError(f"the dry overrides do not fit: {error}") from error


def _example_passes(part: Part, name: str) -> None:
    cls = plugins.load(part.target)
    expect(isinstance(cls, type) and issubclass(cls, Component), f"{part.target} is not a Component")
    assert isinstance(cls, type)
    assert issubclass(cls, Component)
    dict(components.suite.cases(cls.example()))[name]()
