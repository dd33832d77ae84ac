"""What a plugin says about itself, as plain data.

Imports nothing outside the standard library: `metaloop list` reads every installed plugin's `SPEC` without importing
torch, pydantic or the plugin's own heavy modules. Targets are `"module:attribute"` strings, resolved on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

API_VERSION = 1
"""The version of the contract between core and plugins. The core loads plugins of this version only."""

ENTRY_POINT_GROUP = "metaloop.plugins"

Kind = Literal["tasks", "learner", "meta-optimizer", "stage", "executor", "part"]
"""A `part` is a component that other components hold: a network, a schedule."""


@dataclass(frozen=True)
class Paper:
    """The paper that a plugin reproduces."""

    title: str
    authors: str
    year: int
    venue: str
    identifier: str
    """arXiv number, DOI or proceedings page, for example `"arXiv:2212.07677"`."""
    family: str = ""
    """What it is about, as a gallery groups papers: `"in-context learning"`."""


@dataclass(frozen=True)
class Part:
    """One component that a plugin offers."""

    id: str
    """`"<plugin>/<name>"`; it is what run files name."""
    kind: Kind
    target: str
    """`"module:Class"`, the place where the class is defined."""
    summary: str = ""


@dataclass(frozen=True)
class Job:
    """Something that `metaloop run` can run: a function of the profile that makes an Experiment or a Pipeline."""

    id: str
    """`"<plugin>"` for the main job, `"<plugin>/<name>"` for others."""
    target: str
    """`"module:function"`; called with the profile's name."""
    summary: str = ""
    profiles: tuple[str, ...] = ("cpu", "gpu")
    dry: tuple[tuple[str, object], ...] = ()
    """Overrides (path, value) that cut batch, steps and lifetimes so that one step of the `gpu` profile fits a test."""


@dataclass(frozen=True)
class Command:
    """A command that a plugin adds to the command line: `metaloop <name>`."""

    name: str
    target: str
    """`"module:function"`, a function as `typer` takes it; imported when the command is used."""
    summary: str = ""


@dataclass(frozen=True)
class Plugin:
    """A plugin's `SPEC`."""

    name: str
    summary: str
    api: int = API_VERSION
    components: tuple[Part, ...] = ()
    jobs: tuple[Job, ...] = ()
    paper: Paper | None = None
    claims: str | None = None
    """`"module:CLAIMS"`, a tuple of `metaloop.claims.Claim`."""
    hooks: str | None = None
    """`"module"` or `"module:object"` with `metaloop.hooks.hookimpl` functions; kept light, loaded for `run` only."""
    commands: tuple[Command, ...] = ()
    """Commands of the command line; the core's own names can't be taken."""
