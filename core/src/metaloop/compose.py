"""Compositions from documents, run files and plugins' jobs, and back to YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metaloop import plugins, yamltext
from metaloop.component import Component
from metaloop.errors import PluginError, UnknownName, UserError
from metaloop.experiment import Experiment
from metaloop.explain import explained, sentence
from metaloop.manifest import Job
from metaloop.overrides import holds_component
from metaloop.pipeline import Pipeline, Stages
from metaloop.sweep import Sweep

Runnable = Experiment | Pipeline | Sweep
_ROOTS: dict[str, type[Runnable]] = {"experiment": Experiment, "pipeline": Pipeline, "sweep": Sweep}


def from_document(document: object) -> Runnable:
    """What a document of plain values describes: a run file's, or a stored run's config.

    It may name components by their registered ids only, as a mapping with `component` or by the id alone.

    Raises:
        UserError: it is no document of a run, or a value does not fit; names the place.
        UnknownName: no component or field has that name; suggests the nearest.
        Incompatible: the parts don't fit together.
    """
    if not isinstance(document, Mapping) or (root := document.get("component")) not in _ROOTS:
        raise UserError("A run file says 'component: experiment', 'component: pipeline' or 'component: sweep' on top.")
    checked = _checked(document, "")
    with explained():
        return _ROOTS[root].model_validate(checked)


def from_file(path: Path | str) -> Runnable:
    """What a YAML file describes; see `from_document`.

    Raises:
        UserError: the file can't be read, too; every sentence begins with its name.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from error
    document = yamltext.load(content, str(path))
    try:
        return from_document(document)
    except UserError as error:
        error.args = (f"{path}: {error}",)
        raise


def from_job(id: str, profile: str | None = None) -> Runnable:
    """What a plugin's job composes.

    Args:
        id: `"<plugin>"` or `"<plugin>/<job>"`.
        profile: by default `"cpu"`, or the job's first where it has none of that name.

    Raises:
        UnknownName: there is no such job or profile.
        PluginError: the plugin can't be used, or its job makes something else than an experiment or a pipeline.
    """
    job, record = _job(id)
    name = profile or ("cpu" if "cpu" in job.profiles else job.profiles[0])
    if name not in job.profiles:
        raise UnknownName(f"Job {id!r} has no profile {name!r}; it has {', '.join(job.profiles)}.")
    make: Any = plugins.load(job.target, record)
    try:
        made = make(name)
    except ValidationError as error:
        raise PluginError(f"Job {id!r} of plugin {record.label} can't be composed: {sentence(error)}") from error
    if not isinstance(made, Runnable):
        kind = type(made).__name__
        raise PluginError(f"Job {id!r} of plugin {record.label} made a {kind}, not an Experiment or a Pipeline.")
    return made


def to_document(thing: Runnable) -> dict[str, Any]:
    """A composition as plain values, every default included."""
    return thing.model_dump(mode="json")


def to_yaml(thing: Runnable) -> str:
    """A composition as a run file."""
    return yamltext.dump(to_document(thing))


def _job(id: str) -> tuple[Job, plugins.PluginRecord]:
    try:
        return plugins.job(id)
    except UnknownName as error:
        plugin = id.partition("/")[0]
        own = [job.id for job, record in plugins.jobs() if record.name == plugin]
        if not own:
            raise
        hint = f"{plugins.nearest(id, own)} Plugin {plugin!r} has {', '.join(own)}."
        raise UnknownName(f"No job is called {id!r}.{hint}") from error


def _checked(value: Any, where: str) -> Any:
    """The document with ids in full form; refuses unregistered classes and unknown fields, with their place."""
    if isinstance(value, list | tuple):
        return [_checked(item, f"{where}.{position}") for position, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if "component" not in value:
        return {name: _checked(item, f"{where}.{name}".lstrip(".")) for name, item in value.items()}
    cls = _class(value["component"], where)
    checked = {"component": value["component"]}
    for name, item in value.items():
        if name == "component":
            continue
        place = f"{where}.{name}".lstrip(".")
        if name not in cls.model_fields:
            hint = plugins.nearest(str(name), cls.model_fields) or f" There are {', '.join(cls.model_fields)}."
            raise UnknownName(f"There is no field {place!r}.{hint}")
        checked[name] = _checked(_named(item, place, cls.model_fields[name].annotation), place)
    return checked


def _named(value: Any, place: str, annotation: Any) -> Any:
    """A component's value as a mapping that names it; all else as it is."""
    if annotation is Stages and isinstance(value, Mapping):
        return {name: _named(item, f"{place}.{name}", Component) for name, item in value.items()}
    if not holds_component(annotation):
        return value
    if isinstance(value, str):
        return {"component": value}
    if isinstance(value, Mapping) and "component" not in value:
        raise UserError(f"{place} does not say which component it is: give it a 'component' (see 'metaloop list').")
    return value


def _class(id: object, where: str) -> type[Component]:
    at = f"{where}: " if where else ""
    if isinstance(id, str) and id in _ROOTS:
        return _ROOTS[id]
    if not isinstance(id, str) or ":" in id:
        what = "a Python function" if id == "metaloop.pipeline:FunctionStage" else repr(id)
        raise UserError(f"{at}{what} is not registered by a plugin, and only what is can be named here: use Python.")
    try:
        return plugins.resolve(id)
    except UserError as error:
        error.args = (f"{at}{error}",)
        raise
