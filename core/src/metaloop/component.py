"""Components: frozen, validated, hashable descriptions of tasks, learners, meta-optimizers and stages.

A component's fields are its hyper-parameters; its methods are pure. `Component` guards against four things that
pydantic does silently: dumping only the declared base's fields, copying a stale cached module, shipping that module
with a pickle, and leaving lists and dicts mutable inside a frozen model.
"""

from __future__ import annotations

import sys
import types
import typing
from collections import abc, deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self

import pydantic_core
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from metaloop.errors import UserError

_MUTABLE = (list, dict, set, bytearray, deque)
_ABSTRACT = {abc.Mapping, abc.MutableMapping, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet}


class Options(Mapping[str, Any]):
    """An immutable, hashable mapping of plain values: the keyword arguments of a library's class.

    Written as a mapping in YAML and JSON; lists become tuples.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Freeze `items` and `more`."""
        self._items = {key: _freeze(value) for key, value in {**(items or {}), **more}.items()}

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    def __repr__(self) -> str:
        return f"Options({self._items})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Accept any mapping with string keys; dump a plain dict."""
        schema = core_schema.no_info_after_validator_function(
            cls, core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        )
        return core_schema.lax_or_strict_schema(
            lax_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), schema]),
            strict_schema=core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Options(value)
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value


def _mutable_part(annotation: Any) -> Any | None:
    """The first list, dict, set or what pydantic fills with one inside an annotation, or None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return None
    held = origin or annotation
    if held in _ABSTRACT or (isinstance(held, type) and issubclass(held, _MUTABLE)):
        return annotation
    if origin in (typing.Union, types.UnionType, tuple, typing.Annotated):
        return next((part for a in typing.get_args(annotation) if (part := _mutable_part(a)) is not None), None)
    return None


kinds: list[type] = []
"""Every component class. `metaloop.tree` registers those that are older than its import, which is also torch's."""


class Component(BaseModel):
    """Base of everything that an experiment is composed of."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=True,
        ser_json_inf_nan="constants",  # the default writes null for infinity, which does not load
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse mutable fields when the class is defined.

        Raises:
            TypeError: a field's type holds a list, dict or set, or may hold one, as `Sequence` and `Mapping` may.
        """
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if (part := _mutable_part(field.annotation)) is not None:
                raise TypeError(
                    f"{cls.__name__}.{name} is a {part}, which stays mutable inside a frozen component: "
                    "use a tuple, or metaloop.Options for keyword arguments"
                )
        # Tasks that hold a component can be batched: in a tree it is structure, as a dict's keys are.
        kinds.append(cls)
        if (tree := sys.modules.get("metaloop.tree")) is not None:
            tree.be_structure(cls)

    @classmethod
    def example(cls) -> Self:
        """A tiny instance, quick enough for a test; conformance and the composition matrix run it.

        The default has every field at its default: override it where that is slow or where fields are required.
        """
        return cls()

    @cached_property
    def warmed(self) -> bool:
        """Builds every cached value of this component and those it holds; true once that is done.

        The core asks for it before it enters `vmap` or a compiled function, where a module can't be initialised.
        """
        for owner in type(self).__mro__:
            for name, value in vars(owner).items():
                if isinstance(value, cached_property) and name != "warmed":
                    getattr(self, name)
        return all(part.warmed for part in _parts(self))

    @classmethod
    def component_id(cls) -> str:
        """The registered id, or `module:Class` for a class that no plugin names."""
        from metaloop import plugins

        return plugins.id_of(cls) or f"{cls.__module__}:{cls.__qualname__}"

    def but(self, **changes: Any) -> Self:
        """The same component with other values, validated anew."""
        unknown = changes.keys() - type(self).model_fields.keys()
        if unknown:
            raise UserError(f"{type(self).__name__} has no field {sorted(unknown)[0]!r}")
        values = {name: getattr(self, name) for name in type(self).model_fields} | changes
        return type(self).model_validate(values)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy without changes; for changes use `but`, which validates and drops cached modules."""
        if update:
            raise TypeError("model_copy(update=...) would keep stale cached values: use .but(field=value)")
        return super().model_copy(deep=deep)

    @model_validator(mode="wrap")
    @classmethod
    def _load_by_id(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Load the class that a dump names, not the class that the field is typed as."""
        if not (isinstance(value, Mapping) and "component" in value):
            return handler(value)
        from metaloop import plugins

        values = dict(value)
        name = values.pop("component")
        target = cls if name == cls.component_id() else plugins.resolve(name)
        if not issubclass(target, cls):
            raise ValueError(f"{name!r} is not a {cls.__name__}")
        return handler(values) if target is cls else target.model_validate(values)

    @model_serializer(mode="plain")
    def _dump(self, info: pydantic_core.core_schema.SerializationInfo) -> dict[str, Any]:
        """Dump by the instance's own fields, with the component's id, so that it loads as what it is."""
        fields: dict[str, Any] = {"component": self.component_id()}
        for name in type(self).model_fields:
            try:
                fields[name] = _dumped(getattr(self, name), info.mode)
            except pydantic_core.PydanticSerializationError as error:
                message = f"{type(self).__name__}.{name} can't be written to a run file: {error}"
                raise pydantic_core.PydanticSerializationError(message) from error
        return fields

    def __getstate__(self) -> dict[Any, Any]:
        """Pickle fields only: cached modules are built again where they are needed."""
        state = super().__getstate__()
        fields = type(self).model_fields
        return {**state, "__dict__": {name: v for name, v in state["__dict__"].items() if name in fields}}


def _parts(component: Component) -> Iterator[Component]:
    """The components among a component's fields."""
    for name in type(component).model_fields:
        value = getattr(component, name)
        yield from (part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Component))


def _dumped(value: Any, mode: str) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode=mode)
    if isinstance(value, tuple):
        items = tuple(_dumped(item, mode) for item in value)
        return list(items) if mode == "json" else items
    if isinstance(value, Mapping):
        return {key: _dumped(item, mode) for key, item in value.items()}
    if mode != "json":
        return value
    if callable(value):  # said for the reader: a run file with one is not loaded again
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"
    return pydantic_core.to_jsonable_python(value)
