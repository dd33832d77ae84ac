"""Trees as JSON and tensors: what a checkpoint holds, without pickle.

`encode` turns a tree into a JSON value (the skeleton) and the tensors it names; `decode` turns them back. A skeleton
is data: decoding one imports nothing and calls nothing that it names. Live objects (simulators, optimizers) are stored
by their `state_dict`; decoding leaves a `Live` in their place, which `revive` loads into an object of the caller's.
"""

from __future__ import annotations

import math
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import torch
from pydantic import ValidationError
from torch import Tensor

from metaloop.component import Component
from metaloop.errors import CorruptCheckpoint, UserError
from metaloop.key import Key

_PLAIN_TENSORS = (Tensor, torch.nn.Parameter)
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.bool, torch.complex64, torch.complex128),
}
_HOLDS = (
    "a checkpoint holds dicts, lists, tuples, NamedTuples, components, text, numbers, None, tensors, keys "
    "and objects with state_dict and load_state_dict"
)


class Live(NamedTuple):
    """The stored state of a live object."""

    kind: str
    """The object's class, for people to read."""
    state: Any
    """What its `state_dict` returned, on the CPU."""


def encode(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A tree's skeleton and its tensors by name, on the CPU, contiguous, none sharing memory with another.

    Tensors lose `requires_grad`; a tensor that occurs twice is stored once and occurs twice again when decoded.

    Raises:
        TypeError: something in the tree can't be stored; the message says where it is.
    """
    encoder = _Encoder()
    try:
        return encoder.node(tree, ""), encoder.tensors
    except RecursionError:
        raise TypeError("the tree is nested too deeply for a checkpoint, or contains itself") from None


def decode(skeleton: Any, tensors: Mapping[str, Tensor], *, device: torch.device | str = "cpu") -> Any:
    """The tree of a skeleton, its tensors on `device`, with a `Live` for each live object.

    Args:
        skeleton: what `encode` returned, after a trip through JSON.
        tensors: by name.
        device: where tensors and keys go.

    Raises:
        CorruptCheckpoint: the skeleton is not one, or names a tensor that is not there.
        UserError: the class of a NamedTuple or component isn't loaded or has changed.
    """
    try:
        return _Decoder(tensors).value(skeleton, "", torch.device(device))
    except (RecursionError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(f"the skeleton is malformed: {error}") from None


def revive(tree: Any, like: Any, path: str = "") -> Any:
    """A decoded tree with live objects again: those at the same places in `like`, told their state.

    Raises:
        UserError: `like` has no live object where the tree has the state of one.
    """
    if isinstance(tree, Live):
        if not is_live(like):
            raise UserError(f"{path or 'the tree'} is the state of a live {tree.kind}, but there is no such object now")
        like.load_state_dict(tree.state)
        return like
    if isinstance(tree, Mapping):
        others = like if isinstance(like, Mapping) else {}
        return type(tree)((key, revive(item, others.get(key), _in(path, key))) for key, item in tree.items())  # type: ignore[call-arg]
    if isinstance(tree, list | tuple):
        twins = like if isinstance(like, list | tuple) and len(like) == len(tree) else [None] * len(tree)
        items = [revive(item, twin, _in(path, i)) for i, (item, twin) in enumerate(zip(tree, twins, strict=True))]
        return tuple.__new__(type(tree), items) if isinstance(tree, tuple) else items
    return tree


def _in(path: str, key: Any) -> str:
    """The path of an item of a dict, a list or a tuple."""
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


def _class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _loaded_class(name: str, wanted: Callable[[type], bool]) -> Any:
    """The class `module:qualname` if it is wanted, or None unless its module is loaded; runs no code of it."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if not isinstance(found, types.ModuleType | type):
            return None
        found = vars(found).get(part)
    return found if isinstance(found, type) and wanted(found) else None


def _is_component(kind: type) -> bool:
    return issubclass(kind, Component)


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple)


def is_live(value: Any) -> bool:
    """True for what is stored by its `state_dict`."""
    kind = type(value)
    return hasattr(kind, "state_dict") and hasattr(kind, "load_state_dict")


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[Any, tuple[Tensor, str]] = {}  # holds the tensors, or their addresses could be used again
        self._storages: set[int] = set()
        self._in_object = False

    def node(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 63 else {"int": hex(value)}  # Python limits decimal digits
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if kind is Key:
            return {"key": self._tensor(value.data, path)}
        if kind is list:
            return self._items(value, path)
        if kind is tuple:
            return {"tuple": self._items(value, path)}
        if kind in (dict, OrderedDict):
            name = "dict" if kind is dict else "ordered"
            return {name: [[self._key(key, path), self.node(item, _in(path, key))] for key, item in value.items()]}
        if _is_named_tuple(kind):
            return self._named_tuple(value, path)
        if isinstance(value, Component):
            return {"component": self._class_of(value, path, _is_component), "json": value.model_dump_json()}
        if is_live(value):
            return self._object(value, path)
        return self._refuse(path, value, _HOLDS)

    def _items(self, values: Iterable[Any], path: str) -> list[Any]:
        return [self.node(value, _in(path, i)) for i, value in enumerate(values)]

    def _key(self, key: Any, path: str) -> Any:
        scalars = key if type(key) is tuple else (key,)
        if not all(part is None or type(part) in (bool, int, float, str) for part in scalars):
            self._refuse(path, key, "keys of dicts are text, numbers, or tuples of them", "has a key that is")
        return self.node(key, path)

    def _named_tuple(self, value: Any, path: str) -> Any:
        fields = [[field, self.node(item, _in(path, field))] for field, item in value._asdict().items()]
        return {"named": self._class_of(value, path, _is_named_tuple), "fields": fields}

    def _class_of(self, value: Any, path: str, wanted: Callable[[type], bool]) -> str:
        name = _class_name(type(value))
        if _loaded_class(name, wanted) is not type(value):
            self._refuse(path, value, f"its class can't be found as {name}: define it at the top of a module")
        return name

    def _object(self, value: Any, path: str) -> Any:
        if self._in_object:
            self._refuse(path, value, "the state_dict() of an object holds plain values and tensors only")
        self._in_object = True
        state = self.node(value.state_dict(), f"{path}.state_dict()")
        self._in_object = False
        return {"object": _class_name(type(value)), "state": state}

    def _tensor(self, value: Tensor, path: str) -> Any:
        if type(value) not in _PLAIN_TENSORS or value.layout != torch.strided or value.dtype not in _DTYPES:
            what = f"a {value.layout} tensor of {value.dtype}"
            self._refuse(path, value, f"{what}; a checkpoint holds plain, dense tensors of the usual types")
        if value.is_meta:
            self._refuse(path, value, "it is on the meta device and has no values")
        value = value.detach()
        # The order of axes in memory is kept: kernels may round differently on another layout.
        order = sorted(range(value.ndim), key=lambda axis: value.stride()[axis], reverse=True)
        dense = value.permute(order)
        permuted = dense.is_contiguous() and not value.is_contiguous()
        node: dict[str, Any] = {"tensor": self._name(value, dense if permuted else value, path)}
        if permuted:
            node["order"] = order
        if value.is_complex():
            node["complex"] = True
        return node

    def _name(self, value: Tensor, data: Tensor, path: str) -> str:
        """Add the data of a tensor, unless it is there already, and name it."""
        view = (
            value.device,
            value.data_ptr(),
            value.dtype,
            value.shape,
            value.stride(),
            value.is_conj(),
            value.is_neg(),
        )
        if view in self._names:
            return self._names[view][1]
        # Names sort as they occur; the path is there for human eyes.
        name = f"{len(self.tensors):06d} {path}".encode("ascii", "backslashreplace").decode()
        data = data.resolve_conj().resolve_neg()
        data = (torch.view_as_real(data) if data.is_complex() else data).cpu().contiguous()
        if data.untyped_storage().data_ptr() in self._storages:
            data = data.clone()
        self._storages.add(data.untyped_storage().data_ptr())
        self._names[view] = (value, name)
        self.tensors[name] = data
        return name

    def _refuse(self, path: str, value: Any, why: str, verb: str = "is") -> NoReturn:
        kind = type(value)
        article = "an" if kind.__name__[0].lower() in "aeiou" else "a"
        raise TypeError(f"{path or 'the tree'} {verb} {article} {kind.__name__}: {why}")


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._placed: dict[tuple[str, torch.device], Tensor] = {}

    def value(self, node: Any, path: str, device: torch.device) -> Any:
        match node:
            case None | bool() | int() | float() | str():
                return node
            case list():
                return self._items(node, path, device)
            case {"tuple": list(items)}:
                return tuple(self._items(items, path, device))
            case {"dict": list(pairs)}:
                return self._dict(pairs, path, device)
            case {"ordered": list(pairs)}:
                return OrderedDict(self._dict(pairs, path, device))
            case {"named": str(name), "fields": list(pairs)}:
                return self._named_tuple(name, pairs, path, device)
            case {"component": str(name), "json": str(text)}:
                return self._component(name, text, path)
            case {"tensor": str()}:
                return self._tensor(node, path, device)
            case {"key": {"tensor": str()} as inner}:
                return Key(self._tensor(inner, path, device))
            case {"int": str(text)}:
                return int(text, 16)
            case {"float": str(text)} if text in _FLOATS:
                return _FLOATS[text]
            case {"object": str(name), "state": state}:
                return Live(name, self.value(state, f"{path}.state_dict()", torch.device("cpu")))
        raise CorruptCheckpoint(f"the skeleton is malformed at {path or 'its root'}")

    def _items(self, nodes: list[Any], path: str, device: torch.device) -> list[Any]:
        return [self.value(node, _in(path, i), device) for i, node in enumerate(nodes)]

    def _dict(self, pairs: list[Any], path: str, device: torch.device) -> dict[Any, Any]:
        result = {}
        for pair in pairs:
            match pair:
                case [
                    None | bool() | int() | float() | str() | {"tuple": list()} | {"int": _} | {"float": _} as key,
                    node,
                ]:
                    name = self.value(key, path, device)
                    result[name] = self.value(node, _in(path, name), device)
                case _:
                    raise CorruptCheckpoint(f"the skeleton is malformed at {path or 'its root'}")
        return result

    def _named_tuple(self, name: str, pairs: list[Any], path: str, device: torch.device) -> Any:
        kind = self._class(name, path, _is_named_tuple)
        values = self._dict(pairs, path, device)
        if tuple(values) != kind._fields:
            raise UserError(
                f"{path or 'the tree'} was saved with the fields {', '.join(map(str, values))}, but {name} now has "
                f"{', '.join(kind._fields)}: use the version that saved it"
            )
        return tuple.__new__(kind, values.values())

    def _component(self, name: str, text: str, path: str) -> Component:
        kind = self._class(name, path, _is_component)
        try:
            component: Component = kind.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its fields"
            raise UserError(
                f"{path or 'the tree'} was saved as a {name} that this version doesn't take "
                f"({where}: {first['msg']}): use the version that saved it"
            ) from None
        return component

    def _class(self, name: str, path: str, wanted: Callable[[type], bool]) -> Any:
        kind = _loaded_class(name, wanted)
        if kind is None:
            module = name.partition(":")[0]
            raise UserError(f"{path or 'the tree'} was saved as {name}, which isn't loaded: import {module} first")
        return kind

    def _tensor(self, node: dict[str, Any], path: str, device: torch.device) -> Tensor:
        name, order = node["tensor"], node.get("order")
        if name not in self._tensors:
            raise CorruptCheckpoint(f"the tensor at {path or 'the root'} is missing")
        if (name, device) not in self._placed:
            # A copy also has the alignment that torch gives its own tensors: kernels may round differently without it.
            data = self._tensors[name].to(device, copy=True)
            data = torch.view_as_complex(data) if node.get("complex") and data.shape[-1:] == (2,) else data
            if order is not None:
                if sorted(order) != list(range(data.ndim)):
                    raise CorruptCheckpoint(f"the tensor at {path or 'the root'} has other axes than the skeleton says")
                data = data.permute([order.index(axis) for axis in range(data.ndim)])
            self._placed[name, device] = data
        return self._placed[name, device]
