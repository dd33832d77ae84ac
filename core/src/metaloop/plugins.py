"""The plugins that are installed: which there are, what is wrong with those that can't be used, what they offer.

Three levels, each reached only when it is needed: the metadata of a distribution (none of its code runs), its `SPEC` (a
light module), a target (the heavy modules). Whatever a plugin does wrong becomes its record's status and error; nothing
here fails because of a plugin that is not asked for.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

from metaloop._plugin_checks import Status, installed_version, missing, normalised, refused_core, verdict
from metaloop.errors import MetaloopError, PluginError, UnknownName
from metaloop.manifest import ENTRY_POINT_GROUP, Job, Part, Plugin

ALLOW_LIST = "METALOOP_PLUGINS"
"""The environment variable that says which plugins may be imported: unset all, empty none, else names and commas."""

_Offer = TypeVar("_Offer", Part, Job)

_in_process: dict[str, Plugin] = {}


@dataclass(frozen=True)
class PluginRecord:
    """One plugin as it was found, usable or not."""

    name: str
    """The name of its entry point, which is the plugin's own."""
    distribution: str
    """What pip calls the package; empty where there is none (a plugin registered in this process)."""
    version: str
    status: Status
    plugin: Plugin | None = None
    """Its `SPEC` where the status is "ok", else None."""
    error: str | None = None
    """Why it can't be used, as a clause for "plugin 'x' is broken: ..."; None where the status is "ok"."""
    editable: bool = False
    """Installed from a source folder, so its code may differ from its version."""

    @property
    def label(self) -> str:
        """The name and where it comes from, for messages: `'maml' (metaloop-maml 1.2.0)`."""
        return f"{self.name!r} ({' '.join(filter(None, (self.distribution, self.version))) or 'this process'})"


def discover() -> tuple[PluginRecord, ...]:
    """Every plugin by name, with its status; installed ones are looked for once per process (see `refresh`)."""
    own = [PluginRecord(name, "", "", "ok", plugin) for name, plugin in _in_process.items()]
    installed = [record for record in _installed() if record.name not in _in_process]
    return tuple(sorted([*installed, *own], key=lambda record: (record.name, record.distribution)))


def refresh() -> None:
    """Forget what was found, so that the next look sees packages installed or mended since."""
    importlib.invalidate_caches()
    _installed.cache_clear()
    installed_version.cache_clear()


def register(plugin: Plugin) -> None:
    """_Offer a plugin to this process without installing it; one registered earlier under the same name is replaced.

    Raises PluginError where the plugin's declaration is wrong or an installed plugin has its name.
    """
    status, error = verdict(plugin)
    if status != "ok":
        raise PluginError(f"This plugin can't be registered: {error}.")
    for record in _installed():
        if record.name == plugin.name and record.distribution:
            raise PluginError(f"The name {plugin.name!r} is taken by plugin {record.label}; use another name.")
    _in_process[plugin.name] = plugin


@contextmanager
def registered(plugin: Plugin) -> Iterator[Plugin]:
    """_Offer a plugin inside a `with` block only."""
    before = _in_process.get(plugin.name)
    register(plugin)
    try:
        yield plugin
    finally:
        _in_process.pop(plugin.name, None)
        if before is not None:
            _in_process[plugin.name] = before


def get_plugin(name: str) -> PluginRecord:
    """The record of a plugin, whatever its status; raises UnknownName where none has that name."""
    records = discover()
    for record in records:
        if record.name == name:
            return record
    raise UnknownName(f"No plugin is called {name!r}.{nearest(name, (record.name for record in records))}")


def parts(kind: str | None = None) -> tuple[tuple[Part, PluginRecord], ...]:
    """The components of all usable plugins, or those of one kind."""
    everything = ((part, record) for record in discover() if record.plugin for part in record.plugin.components)
    return tuple((part, record) for part, record in everything if kind in (None, part.kind))


def resolve(id: str, kind: str | None = None) -> type:
    """The class of a component, imported now.

    Raises UnknownName where no component (of that kind) has the id, PluginError where its plugin can't be used or its
    class can't be imported.
    """
    part, record = _find(id, parts(), "component")
    if kind not in (None, part.kind):
        others = nearest(id, (other.id for other, _ in parts(kind)))
        raise UnknownName(f"{id!r} is of kind {part.kind!r}, and {kind!r} is needed here.{others}")
    found = load(part.target, record)
    if not isinstance(found, type):
        raise PluginError(f"Plugin {record.label} names {part.target!r} as component {id!r}, but it is not a class.")
    if (defined := _target_of(found)) != part.target:
        raise PluginError(f"Plugin {record.label} names {part.target!r}, which is defined in {defined!r}; name that.")
    return found


def id_of(cls: type) -> str | None:
    """The id under which a class is offered, or None; imports nothing."""
    target = _target_of(cls)
    return next((part.id for part, _ in parts() if part.target == target), None)


def jobs() -> tuple[tuple[Job, PluginRecord], ...]:
    """The jobs of all usable plugins."""
    return tuple((found, record) for record in discover() if record.plugin for found in record.plugin.jobs)


def job(id: str) -> tuple[Job, PluginRecord]:
    """A job and the plugin that offers it; raises UnknownName or PluginError as `resolve` does."""
    return _find(id, jobs(), "job")


def load(target: str, record: PluginRecord | None = None) -> object:
    """What `"module:attribute"` (or `"module"`) names, imported now.

    Raises PluginError with the reason where that fails; *record* is the plugin that the message blames.
    """
    module, _, path = target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in path.split(".") if path else ():
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        owner = f"Plugin {record.label} is installed, but {target!r}" if record else repr(target)
        raise PluginError(f"{owner} can't be imported: {reason(error)}.") from error
    return found


def source_folder(record: PluginRecord) -> Path | None:
    """The folder from which an editable plugin is installed; None for others, and where it is gone."""
    if not record.editable:
        return None
    origin = _origin(Distribution.from_name(record.distribution))
    folder = Path(unquote(urlparse(str(origin.get("url", ""))).path))
    return folder if folder.is_dir() else None


def versions() -> dict[str, str]:
    """Distribution -> version of metaloop, torch and every usable plugin, from metadata; what a run records."""
    core = {name: installed_version(name) for name in ("metaloop", "torch")}
    plugins = {record.distribution: record.version for record in discover() if record.status == "ok"}
    return {name: version for name, version in (core | plugins).items() if name and version}


def nearest(name: str, names: Iterable[str]) -> str:
    """The sentence `" Did you mean 'x'?"` for the name most like *name*, or an empty string.

    The last piece alone counts too: 'maml' suggests 'basics/maml', and 'width' suggests 'learner.width'.
    """
    known = {other.lower(): other for other in names}
    tails = [other for other in known if re.split(r"[/.]", other)[-1] == name.lower()]
    found = tails or difflib.get_close_matches(name.lower(), known, n=1)
    return f" Did you mean {known[found[0]]!r}?" if found else ""


def reason(error: BaseException) -> str:
    """An exception as one short clause without a full stop, to end a sentence with."""
    text = textwrap.shorten(str(error), 300, placeholder=" ...").rstrip(".")
    if isinstance(error, MetaloopError):
        return text
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in sys.modules:
        return f"it needs the module {error.name!r}, which is not installed"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@functools.cache
def _installed() -> tuple[PluginRecord, ...]:
    """A record for every plugin in the environment; imports the `SPEC` of those that may be used."""
    allowed = _allowed()
    found = tuple(_scan())
    offered: dict[str, list[str]] = {}
    for record, _, _ in found:
        offered.setdefault(record.name, []).append(f"{record.distribution} {record.version}")
    records = []
    for record, point, requires in found:
        if allowed is not None and record.name not in allowed:
            record = replace(record, status="blocked", error=f"{ALLOW_LIST} does not name it")
        elif len(rivals := offered[record.name]) > 1:
            clash = f"{' and '.join(rivals)} both offer {record.name!r}; uninstall one of them"
            record = replace(record, status="conflict", error=clash)
        elif point is not None:
            record = _read(record, point, requires)
        records.append(record)
    for name in sorted((allowed or set()) - offered.keys()):
        records.append(PluginRecord(name, "", "", "broken", error=f"{ALLOW_LIST} names it, but it is not installed"))
    return tuple(records)


def _allowed() -> set[str] | None:
    names = os.environ.get(ALLOW_LIST)
    return None if names is None else {name.strip() for name in names.split(",") if name.strip()}


def _scan() -> Iterator[tuple[PluginRecord, EntryPoint | None, list[str]]]:
    """Each plugin as metadata shows it, its entry point (None where the metadata is broken) and its requirements.

    Not `importlib.metadata.entry_points`: one malformed line in any distribution makes it fail for all.
    """
    seen = set()
    for distribution in distributions():
        try:
            if ENTRY_POINT_GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
        except Exception:  # unreadable, so nothing says that it is ours
            continue
        try:
            about = distribution.metadata  # parsed anew on every access
            name, version = about["Name"], about["Version"] or ""
            requires = about.get_all("Requires-Dist") or []
            editable = _editable(distribution)
            points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
            hidden = normalised(name) in seen  # an older copy, further down the path
        except Exception as error:
            folder = Path(str(getattr(distribution, "_path", "?"))).name
            why = f"its metadata can't be read ({reason(error)}); install it again"
            yield PluginRecord(folder, "", "", "broken", error=why), None, []
            continue
        seen.add(normalised(name))
        for point in () if hidden else points:
            yield PluginRecord(point.name, name, version, "ok", editable=editable), point, requires


def _editable(distribution: Distribution) -> bool:
    return bool(_origin(distribution).get("dir_info", {}).get("editable"))


def _origin(distribution: Distribution) -> dict[str, Any]:
    """Where a distribution was installed from, as its installer noted it (PEP 610); empty where it did not."""
    origin: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    return origin


def _read(record: PluginRecord, point: EntryPoint, requires: list[str]) -> PluginRecord:
    """Check a plugin's requirements, then import its `SPEC` and check that."""
    try:
        if refused := refused_core(requires):
            running = installed_version("metaloop")
            return replace(record, status="incompatible", error=f"it needs {refused}, this is metaloop {running}")
        if absent := missing(requires):
            return replace(record, status="broken", error=f"it needs {', '.join(absent)}, which is not installed")
        spec = point.load()
        status, error = verdict(spec)
        if status == "ok" and spec.name != record.name:
            status, error = "broken", f"its entry point is called {record.name!r}, its SPEC {spec.name!r}"
        return replace(record, status=status, error=error, plugin=spec if status == "ok" else None)
    except (Exception, SystemExit) as failure:
        return replace(record, status="broken", error=f"importing {point.value!r} failed: {reason(failure)}")


def _target_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(id: str, offers: tuple[tuple[_Offer, PluginRecord], ...], what: str) -> tuple[_Offer, PluginRecord]:
    """The offer of that id; else the error that says why there is none."""
    for offer, record in offers:
        if offer.id == id:
            return offer, record
    records = discover()
    name = id.partition("/")[0]
    owners = [record for record in records if record.name == name]
    for owner in owners:
        if owner.status != "ok":
            raise PluginError(f"{id!r} can't be used: plugin {owner.label} is {owner.status}: {owner.error}.")
    message = f"No {what} is called {id!r}."
    hint = nearest(id, (offer.id for offer, _ in offers))
    if not owners:
        message = f"No {what} is called {id!r}, and no plugin {name!r} is installed."
        hint = hint or nearest(name, (record.name for record in records))
    message += hint
    if unusable := sorted({record.name for record in records if record.status not in ("ok", "blocked")}):
        message += f" Not loaded: {', '.join(unusable)}; 'metaloop doctor' says why."
    raise UnknownName(message)
