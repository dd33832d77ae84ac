"""The one place where metaloop meets torch's tree library.

A tree is a nesting of dicts, lists, tuples and NamedTuples whose leaves are tensors (or keys, which are tree nodes of
their own). Components in it are structure. `torch.func.vmap` uses the same library, so whatever passes here can be
batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metaloop import component

T = TypeVar("T")


def be_structure(kind: type) -> None:
    """Let values of a class be a part of trees' structure, as a dict's keys are: no leaves, equal in equal trees."""
    pytree.register_pytree_node(kind, lambda value: ([], value), lambda _, value: value)


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a tree, in a fixed order; what `is_leaf` accepts is not looked into."""
    found: list[Any] = pytree.tree_leaves(tree, is_leaf=is_leaf)
    return found


def tree_map(fn: Callable[..., Any], tree: T, *others: Any, is_leaf: Callable[[Any], bool] | None = None) -> T:
    """Apply `fn` to corresponding leaves; what `is_leaf` accepts is not looked into."""
    mapped: T = pytree.tree_map(fn, tree, *others, is_leaf=is_leaf)
    return mapped


def map_tensors(fn: Callable[[Tensor], Any], tree: T) -> T:
    """Apply `fn` to the tensors among the leaves; other leaves stay as they are."""
    found, spec = pytree.tree_flatten(tree)
    mapped: T = pytree.tree_unflatten([fn(leaf) if isinstance(leaf, Tensor) else leaf for leaf in found], spec)
    return mapped


def index(tree: T, rows: Any) -> T:
    """Take rows along the leading axis of every tensor."""
    return map_tensors(lambda leaf: leaf[rows], tree)


def stack(trees: Sequence[T]) -> T:
    """Stack trees of equal structure along a new leading axis."""
    return tree_map(lambda *leaf: torch.stack(leaf), trees[0], *trees[1:])


def concatenate(trees: Sequence[T]) -> T:
    """Concatenate trees of equal structure along their leading axis."""
    return tree_map(lambda *leaf: torch.cat(leaf), trees[0], *trees[1:])


def where(mask: Tensor, new: T, old: T) -> T:
    """Choose per row: `mask` `[T]` against leaves `[T, ...]` (or a scalar mask inside `vmap`).

    Leaves that are no tensors belong to no row: the new ones are taken.
    """

    def choose(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        return torch.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return tree_map(choose, new, old)


def put(tree: T, rows: Tensor, values: T) -> T:
    """A copy of `tree` whose rows `rows` `[n]` (indices) are `values` `[n, ...]`.

    Raises:
        TypeError: a leaf is no tensor, so it has no rows.
    """

    def replaced(leaf: Any, value: Any) -> Tensor:
        if not isinstance(leaf, Tensor):
            raise TypeError(f"lives that end at different times need states of tensors, not of {type(leaf).__name__}")
        return leaf.index_copy(0, rows, value.to(leaf.dtype))

    return tree_map(replaced, tree, values)


def detach(tree: T) -> T:
    """Cut every tensor from its graph."""
    return map_tensors(torch.Tensor.detach, tree)


def clone(tree: T) -> T:
    """Copy every tensor."""
    return map_tensors(torch.clone, tree)


def to(tree: T, device: torch.device | str) -> T:
    """Move every tensor."""
    return map_tensors(lambda leaf: leaf.to(device), tree)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """True when no floating-point tensor holds NaN or infinity."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())


def length(tasks: Any) -> int:
    """The number of rows of a batch: the leading axis of its tensors, or the length of a list of objects."""
    if isinstance(tasks, list):
        return len(tasks)
    for leaf in pytree.tree_iter(tasks):
        if isinstance(leaf, Tensor):
            return leaf.shape[0]
    raise TypeError("a batch of tasks is a tree of tensors with a leading task axis, or a list of plain values")


for _kind in component.kinds:
    be_structure(_kind)
