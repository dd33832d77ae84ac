"""`metaloop list` and `metaloop info`: what is installed; only the fields of a component need its code."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloop import plugins
from metaloop.cli import output
from metaloop.cli.guard import guarded
from metaloop.cli.options import Json
from metaloop.errors import UnknownName
from metaloop.manifest import Job, Part

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from metaloop.plugins import PluginRecord


@guarded
def show_list(as_json: Json = False) -> None:
    """List the installed plugins, what they offer, and what is wrong with those that can't be used."""
    records = plugins.discover()
    if as_json:
        output.print_json([_plugin(record) for record in records])
        return
    table = output.table("plugin", "version", "status", "what it is", "jobs")
    for record in records:
        version = f"{record.version} (editable)" if record.editable else record.version
        if record.plugin:
            jobs = "\n".join(job.id for job in record.plugin.jobs)
            output.row(table, record.name, version, record.status, record.plugin.summary, jobs)
        else:
            output.row(table, record.name, version, record.status, record.error, "", style="red")
    output.console().print(table)


@guarded
def show_info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, component or job.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a plugin's paper, components and jobs, or a component's fields."""
    record = next((record for record in plugins.discover() if record.name == name), None)
    found = [(part, owner) for part, owner in plugins.parts() if part.id == name]
    jobs = [(job, owner) for job, owner in plugins.jobs() if job.id == name]
    if record is None and not found and not jobs:
        raise _unknown(name)
    about: dict[str, Any] = _plugin(record) if record else {}
    if found and not record:
        about = _component(*found[0])
    for job, owner in jobs:
        about = about or {"plugin": owner.name}
        about["job"] = dataclasses.asdict(job)
    if as_json:
        output.print_json(about)
    else:
        _print(about)


def _unknown(name: str) -> Exception:
    """Why there is nothing of that name: its plugin is broken, or the name is."""
    owner, slash, _ = name.partition("/")
    if slash and any(record.name == owner and record.plugin is None for record in plugins.discover()):
        plugins.resolve(name)
    known = {record.name for record in plugins.discover()}
    known |= {part.id for part, _ in plugins.parts()} | {job.id for job, _ in plugins.jobs()}
    return UnknownName(f"No plugin, component or job is called {name!r}.{plugins.nearest(name, known)}")


def _plugin(record: PluginRecord) -> dict[str, Any]:
    """A plugin as plain values, from its SPEC alone."""
    about: dict[str, Any] = {
        "plugin": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "editable": record.editable,
        "status": record.status,
        "error": record.error,
    }
    if spec := record.plugin:
        about["summary"] = spec.summary
        about["paper"] = dataclasses.asdict(spec.paper) if spec.paper else None
        about["claims"] = spec.claims is not None
        about["components"] = [_named(part, kind=part.kind) for part in spec.components]
        about["jobs"] = [_named(job, profiles=list(job.profiles)) for job in spec.jobs]
    return about


def _named(offer: Part | Job, **more: Any) -> dict[str, Any]:
    return {"id": offer.id, **more, "summary": offer.summary}


def _component(part: Part, owner: PluginRecord) -> dict[str, Any]:
    """A component as plain values; imports it."""
    cls: Any = plugins.resolve(part.id)
    return {
        "component": part.id,
        "kind": part.kind,
        "plugin": owner.name,
        "class": part.target,
        "summary": part.summary,
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "fields": [
            {
                "name": name,
                "type": _type(field),
                "default": None if field.is_required() else _default(field),
                "required": field.is_required(),
                "description": field.description or "",
            }
            for name, field in cls.model_fields.items()
        ],
    }


def _type(field: FieldInfo) -> str:
    """A field's type and bounds as people read them: `"float > 0"`, `"'mean' | 'sum'"`."""
    bounds = [str(bound) for part in field.metadata if (bound := _bound(part))]
    return " ".join([_annotation(field.annotation), " and ".join(bounds)]).strip()


def _bound(constraint: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "pattern": "like", "min_length": "of at least"}
    for name, sign in signs.items():
        if (value := getattr(constraint, name, None)) is not None:
            return f"{sign} {value:g}" if isinstance(value, float) else f"{sign} {value}"
    return ""


def _annotation(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(repr, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_annotation, parts))
    if origin is typing.Annotated:
        return _annotation(parts[0])
    if annotation in (None, types.NoneType):
        return "null"
    if origin is tuple:
        return "list of " + " | ".join(dict.fromkeys(_annotation(part) for part in parts if part is not Ellipsis))
    return str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(field.get_default(call_default_factory=True), fallback=str)


def _print(about: dict[str, Any]) -> None:
    """What `info` found, for people."""
    screen = output.console()
    head = output.table("", "")
    head.show_header = False
    for name, value in about.items():
        if name == "paper" and value:
            cited = f"{value['title']}\n{value['authors']}, {value['venue']} {value['year']}, {value['identifier']}"
            output.row(head, name, cited)
            if value["family"]:
                output.row(head, "family", value["family"])
        elif name == "job":
            profiles = ", ".join(value["profiles"])
            output.row(
                head, name, f"{value['id']}: {value['summary']} (profiles {profiles})\nmetaloop run {value['id']}"
            )
        elif name == "claims":
            output.row(head, name, f"metaloop verify {about['plugin']}" if value else "none")
        elif not isinstance(value, list | dict | bool) and value:
            output.row(head, name, value, style="red" if name == "error" else None)
    screen.print(head)
    for name in ("components", "jobs"):
        if about.get(name):
            third = "kind" if name == "components" else "profiles"
            table = output.table(name, third, "what it is")
            for item in about[name]:
                kind = item[third] if isinstance(item[third], str) else ", ".join(item[third])
                output.row(table, item["id"], kind, item["summary"])
            screen.print(table)
    if "fields" in about:
        screen.print(_fields(about["fields"]))


def _fields(fields: list[dict[str, Any]]) -> Any:
    import json

    table = output.table("field", "type", "default", "what it is")
    for field in fields:
        default = "(required)" if field["required"] else json.dumps(field["default"], ensure_ascii=False)
        output.row(table, field["name"], field["type"], default, field["description"])
    return table
