"""Whether a plugin can be used: what its distribution asks for, and what its `SPEC` declares.

The requirement check is a few lines instead of the `packaging` library, which alone takes as long to import as
everything else that listing does. It is lenient where the two differ: only release numbers count, so that a development
version of the core passes as the release it leads to.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterable
from typing import Literal, get_args

from metaloop.manifest import API_VERSION, Command, Job, Kind, Part, Plugin

Status = Literal["ok", "broken", "incompatible", "conflict", "blocked"]

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;@()]*)\)?")
_CLAUSE = re.compile(r"(===|~=|==|!=|<=|>=|<|>)\s*([^,\s]+)")
_RELEASE = re.compile(r"v?(?:\d+!)?(\d+(?:\.\d+)*)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TARGET = re.compile(r"[^:\s]+:[^:\s]+")


@functools.cache
def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None where its metadata isn't found."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def normalised(distribution: str) -> str:
    """The name by which two spellings of a distribution are the same (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def missing(requires: Iterable[str]) -> list[str]:
    """The requirements whose distribution isn't installed, without their environment markers.

    A requirement under a marker (an extra, an operating system) is left out: whether it counts can't be said here, and
    if it does, the import that needs it names it.
    """
    found = []
    for text in requires:
        name, _ = _parse(text)
        if ";" not in text and name not in ("", "metaloop") and installed_version(name) is None:
            found.append(text.strip())
    return found


def refused_core(requires: Iterable[str]) -> str | None:
    """The first requirement on metaloop that the running core does not meet, or None."""
    running = installed_version("metaloop")
    for text in requires:
        name, versions = _parse(text)
        if ";" not in text and name == "metaloop" and running is not None and not admits(versions, running):
            return text.strip()
    return None


def admits(versions: str, version: str) -> bool:
    """Whether a specifier such as `">=0.1,<1"` admits *version*, by release numbers alone."""
    have = _numbers(version)
    return have is None or all(_holds(have, *clause.groups()) for clause in _CLAUSE.finditer(versions))


def _holds(have: tuple[int, ...], op: str, bound: str) -> bool:
    want = _numbers(bound)
    if want is None:
        return True
    size = max(len(have), len(want))
    left, right = (numbers + (0,) * (size - len(numbers)) for numbers in (have, want))
    same = left[: len(want)] == want if bound.endswith(".*") else left == right
    match op:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "~=":
            return left >= right and left[: len(want) - 1] == want[:-1]
        case "!=":
            return not same
        case _:
            return same


def _parse(requirement: str) -> tuple[str, str]:
    """The normalised name and the version specifier of a requirement; two empty strings where there is no name."""
    match = _REQUIREMENT.match(requirement)
    return (normalised(match[1]), match[2]) if match else ("", "")


def _numbers(version: str) -> tuple[int, ...] | None:
    match = _RELEASE.match(version)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def verdict(spec: object) -> tuple[Status, str | None]:
    """Whether a declaration can be used, and if not, why; looks at its strings only."""
    if not isinstance(spec, Plugin):
        return "broken", f"its SPEC is of type {type(spec).__name__}, not metaloop.manifest.Plugin"
    if spec.api != API_VERSION:
        return "incompatible", f"it is made for plugin API {spec.api!r}, and this metaloop has API {API_VERSION}"
    if not _NAME.fullmatch(spec.name):
        return "broken", f"its name {spec.name!r} is not made of letters, digits, '.', '_' and '-'"
    fault = _fault(spec.name, spec.components, Part) or _fault(spec.name, spec.jobs, Job)
    if fault is None and (odd := [part for part in spec.components if part.kind not in get_args(Kind)]):
        fault = f"{odd[0].id!r} is of the unknown kind {odd[0].kind!r}"
    fault = fault or _command_fault(spec.commands)
    return ("broken", fault) if fault else ("ok", None)


def _command_fault(commands: tuple[Command, ...]) -> str | None:
    """What is wrong with the first wrong command."""
    if not isinstance(commands, tuple):
        return f"it gives one {type(commands).__name__} where a tuple of Command belongs"
    for command in commands:
        if not isinstance(command, Command):
            return f"it lists {command!r} where a Command belongs"
        if not _NAME.fullmatch(command.name) or not _TARGET.fullmatch(command.target):
            return f"its command {command.name!r} needs a name and a target 'module:function'"
    return None


def _fault(plugin: str, offers: tuple[Part | Job, ...], expected: type[Part | Job]) -> str | None:
    """What is wrong with the first wrong component or job."""
    if not isinstance(offers, tuple):  # "(Part(...))" without its comma
        return f"it gives one {type(offers).__name__} where a tuple of {expected.__name__} belongs"
    seen: set[str] = set()
    for offer in offers:
        if not isinstance(offer, expected):
            return f"it lists {offer!r} where a {expected.__name__} belongs"
        if offer.id != plugin and not offer.id.startswith(f"{plugin}/"):
            return f"its id {offer.id!r} is neither {plugin!r} nor begins with '{plugin}/'"
        if offer.id in seen:
            return f"it lists {offer.id!r} twice"
        if not _TARGET.fullmatch(offer.target):
            return f"the target {offer.target!r} of {offer.id!r} is not 'module:attribute'"
        seen.add(offer.id)
    return None
