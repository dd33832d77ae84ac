"""Change settings of a composition by their path: `learner.lr`, `meta_optimizer`, `train.learner.widths.0`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from metaloop import plugins, yamltext
from metaloop.component import Component
from metaloop.errors import UnknownName, UserError
from metaloop.explain import explained
from metaloop.pipeline import Pipeline, Stages

C = TypeVar("C", bound=Component)
Change = tuple[str, Any]
_Changes = list[tuple[tuple[str, ...], Any]]


def override(thing: C, changes: Iterable[Change]) -> C:
    """The same composition with other values, validated once all changes are made.

    A component is given as an instance, an id, or a mapping with `component` (other fields at their defaults); a
    mapping without `component` changes some fields of the one that is there. Later changes see earlier ones.
    In a pipeline a path begins with a stage's name; without one it is the pipeline's own field, or the field of the one
    stage that has it.

    Raises:
        UnknownName: there is no such path; suggests the nearest.
        UserError: a value does not fit; names the field, the value and what is expected.
        Incompatible: the parts don't fit together any more.
    """
    routed = [(_route(thing, path), value) for path, value in changes]
    changed: C = _Override(thing).apply(thing, routed, ())
    return changed


def parse(setting: str) -> Change:
    """A setting as people write it, `path=value` with the value in YAML.

    Raises:
        UserError: there is no `=`, no value, or the value is not YAML.
    """
    path, _, value = setting.partition("=")
    if not path.strip() or not value.strip():
        raise UserError(f"{setting!r} is not a setting: write path=value, for example learner.steps=3.")
    return path.strip(), yamltext.load(value, f"the value of {path.strip()}")


def parse_values(setting: str) -> tuple[str, tuple[Any, ...]]:
    """A setting with several values, `path=a,b,...`.

    Raises:
        UserError: as for `parse`.
    """
    path, _, values = setting.partition("=")
    if not path.strip() or not values.strip():
        raise UserError(f"{setting!r} is not a sweep: write path=value,value, for example learner.lr=0.01,0.1.")
    return path.strip(), tuple(yamltext.load(f"[{values}]", f"the values of {path.strip()}"))


def paths(thing: Any) -> Iterator[str]:
    """Every path that `override` knows in a composition."""
    if isinstance(thing, BaseModel):
        for name in type(thing).model_fields:
            if not isinstance(value := getattr(thing, name), Stages):
                yield name
                yield from (f"{name}.{path}" for path in paths(value))
            else:
                yield from paths(value)
    elif isinstance(thing, Mapping):
        for name, value in thing.items():
            yield from (f"{name}.{path}" for path in paths(value))
    elif isinstance(thing, tuple):
        for position, value in enumerate(thing):
            yield from (f"{position}.{path}" for path in paths(value))


def holds_component(annotation: Any) -> bool:
    """Whether a field may hold a component, and no text."""
    return _within(annotation, Component) and not _within(annotation, str)


def _within(annotation: Any, wanted: type) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_within(part, wanted) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, wanted)


def _route(thing: Component, path: str) -> tuple[str, ...]:
    """The path from the root: in a pipeline it may leave out `stages`, and the stage's name where that is clear."""
    first, *rest = path.split(".")
    if not isinstance(thing, Pipeline):
        return (first, *rest)
    if first in thing.stages:
        return ("stages", first, *rest)
    if first in type(thing).model_fields:
        return (first, *rest)
    owners = [name for name, stage in thing.stages.items() if first in type(stage).model_fields]
    if len(owners) > 1:
        owners = [name for name in owners if path in paths(thing.stages[name])] or owners
    if len(owners) > 1:
        raise UserError(f"{path!r} may be {' or '.join(f'{name}.{path}' for name in owners)}: write one of them.")
    return ("stages", owners[0], first, *rest) if owners else (first, *rest)


class _Override:
    """One override; `root` is the composition as it was, from which suggestions are made."""

    def __init__(self, root: Component) -> None:
        self.root = root

    def apply(self, current: Any, changes: _Changes, where: tuple[str, ...], annotation: Any = None) -> Any:
        """`current`, which is at `where`, with the changes; their paths are relative to it."""
        parts: dict[str, _Changes] = {}
        for path, value in changes:
            if path:
                parts.setdefault(path[0], []).append((path[1:], value))
            elif isinstance(current, Component) and isinstance(value, Mapping) and "component" not in value:
                for name, item in value.items():
                    parts.setdefault(name, []).append(((), item))
            elif isinstance(value, str) and holds_component(annotation):
                current, parts = {"component": value}, {}
            else:
                current, parts = value, {}
        if not parts:
            return current
        if isinstance(current, BaseModel):
            fields = {name: getattr(current, name) for name in type(current).model_fields}
            with explained(self._place(where)):
                return type(current).model_validate(fields | self._fields(type(current), fields, parts, where))
        if isinstance(current, Mapping):
            return {**current, **self._items(current, parts, where)}
        if isinstance(current, Sequence) and not isinstance(current, str):
            return self._elements(current, parts, where)
        raise UserError(f"{self._place(where)} is {current!r}, so it has no {next(iter(parts))!r} to set.")

    def _fields(
        self, cls: type[BaseModel], values: Mapping[str, Any], parts: Mapping[str, _Changes], where: tuple[str, ...]
    ) -> dict[str, Any]:
        """The new values of a model's fields."""
        new = {}
        for name, changes in parts.items():
            if name not in cls.model_fields:
                raise self._unknown((*where, name), cls.model_fields)
            field = cls.model_fields[name]
            value = values[name] if name in values else field.get_default(call_default_factory=True)
            new[name] = self.apply(value, changes, (*where, name), field.annotation)
        return new

    def _items(
        self, values: Mapping[str, Any], parts: Mapping[str, _Changes], where: tuple[str, ...]
    ) -> dict[str, Any]:
        """The new items of a mapping: a component that was just named, stages, or options, which may be any."""
        if "component" in values:
            return self._fields(plugins.resolve(values["component"]), values, parts, where)
        if isinstance(values, Stages) and (unknown := [name for name in parts if name not in values]):
            raise self._unknown((*where, unknown[0]), values)
        return {name: self.apply(values.get(name), changes, (*where, name)) for name, changes in parts.items()}

    def _elements(self, values: Sequence[Any], parts: Mapping[str, _Changes], where: tuple[str, ...]) -> list[Any]:
        new = list(values)
        for name, changes in parts.items():
            if not name.isdecimal() or int(name) >= len(new):
                raise UnknownName(
                    f"{self._place(where)} has {len(new)} elements, counted from 0, and none is {name!r}."
                )
            new[int(name)] = self.apply(new[int(name)], changes, (*where, name))
        return new

    def _unknown(self, where: tuple[str, ...], names: Iterable[str]) -> UnknownName:
        name, beside = where[-1], list(names)
        if len(where) == 1 and isinstance(self.root, Pipeline):
            beside = [*self.root.stages, *(other for other in beside if other != "stages")]
        namesakes = [path for path in paths(self.root) if path.endswith(f".{name}")]
        hint = plugins.nearest(name, beside)
        if not hint:
            hint = plugins.nearest(name, namesakes)
            hint += "" if hint and len(where) == 1 else f" There are {', '.join(beside)}."
        return UnknownName(f"There is no setting {self._place(where)!r}.{hint}")

    def _place(self, where: tuple[str, ...]) -> str:
        return ".".join(where[1:] if isinstance(self.root, Pipeline) and where[:1] == ("stages",) else where)
