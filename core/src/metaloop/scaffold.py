"""A whole new plugin package, from a name: the files in `templates`, which are a working package called `template`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath

from metaloop import plugins
from metaloop._plugin_checks import installed_version
from metaloop.errors import UserError

LAYERS = {
    "tasks": ("common", "tasks"),
    "learner": ("common", "learner"),
    "meta-optimizer": ("common", "meta-optimizer"),
    "paper": ("common", "learner", "paper"),
}
"""By kind, the folders of `templates` that a package is made of; a later one's files take the place of an earlier's."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED = {"core", "basics", "template"}


def create(name: str, kind: str, parent: Path) -> Path:
    """Write the package `metaloop-<name>` into a new folder of that name; returns the folder.

    Raises:
        UserError: an unknown kind, a name that can't be a plugin's or is taken, or a folder that is there already.
    """
    if kind not in LAYERS:
        raise UserError(f"--kind {kind!r} is not one of {', '.join(LAYERS)}.{plugins.nearest(kind, LAYERS)}")
    _check(name)
    folder = parent / f"metaloop-{name}"
    if not parent.is_dir():
        raise UserError(f"{parent} is not a folder: make it first, or name another with --into.")
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it, or choose another name or another folder with --into.")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as temporary:
        whole = Path(temporary) / folder.name
        for path, text in rendered(name, kind).items():
            place = whole / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        shutil.move(whole, folder)
    return folder


def rendered(name: str, kind: str) -> dict[PurePath, str]:
    """The package's files by their path in it."""
    found: dict[PurePath, str] = {}
    for layer in LAYERS[kind]:
        for path, text in _texts(files("metaloop") / "templates" / layer):
            found[PurePath(_with_name(str(path), name))] = _with_name(text, name)
    return found


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} can't be a plugin's name: use small letters, digits and single hyphens, as in my-tasks."
        )
    if name in _RESERVED:
        raise UserError(f"The name {name!r} is reserved; choose another.")
    for record in plugins.discover():
        if record.name == name:
            raise UserError(f"The name {name!r} is taken by plugin {record.label}; choose another.")


def _texts(folder: Traversable) -> Iterator[tuple[PurePath, str]]:
    """Every file below a folder, but for what Python leaves beside its modules."""
    for entry in folder.iterdir():
        if entry.is_file():
            yield PurePath(entry.name), entry.read_text(encoding="utf-8")
        elif entry.name != "__pycache__":
            yield from ((PurePath(entry.name) / path, text) for path, text in _texts(entry))


def _with_name(text: str, name: str) -> str:
    """The template's text with the plugin's name in all its spellings."""
    spellings = {
        "METALOOP-BASICS": _requirement("metaloop-basics"),
        "METALOOP": _requirement("metaloop"),
        "metaloop_template": f"metaloop_{name.replace('-', '_')}",
        "Template": "".join(word.capitalize() for word in name.split("-")),
        "test_template": f"test_{name.replace('-', '_')}",
        "template": name,
    }
    pattern = re.compile(rf"(?:{'|'.join(spellings)})(?!_)")
    return pattern.sub(lambda found: spellings[found[0]], text)


def _requirement(distribution: str) -> str:
    """The installed minor version and no later one, as `metaloop>=0.1,<0.2`; any where none is installed."""
    version = installed_version(distribution)
    if version is None:
        return distribution
    major, minor = (int(number) for number in [*re.findall(r"\d+", version), 0][:2])
    return f"{distribution}>={major}.{minor},<{major}.{minor + 1}"
