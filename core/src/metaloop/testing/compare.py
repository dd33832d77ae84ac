"""What checks are made of: comparing trees, copying them, and watching what is global."""

from __future__ import annotations

import copy
import gc
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from metaloop import checkpoint
from metaloop.component import Component
from metaloop.key import Key
from metaloop.outcome import Outcome
from metaloop.precision import default_dtype
from metaloop.skeleton import revive

C = TypeVar("C", bound=Component)


def expect(condition: bool, message: str) -> None:
    """Fail the check with one sentence unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def expect_same(one: Any, other: Any, what: str, tolerance: float = 0.0) -> None:
    """Fail the check where two trees differ; the sentence says what differs, where and by how much."""
    if (found := difference(one, other, tolerance)) is not None:
        raise AssertionError(f"{what}: {found}")


def difference(one: Any, other: Any, tolerance: float = 0.0, where: str = "") -> str | None:
    """The first difference between two trees, or None.

    Args:
        one: dicts, lists, tuples, tensors, keys, plain values and objects with `state_dict`.
        other: compared with it.
        tolerance: greatest difference between the elements of two tensors, relative to the largest of them.
        where: the path so far.
    """
    place = where or "the value"
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _tensors_differ(one, other, tolerance, place)
    if type(one) is not type(other):
        return f"{place} is a {type(one).__name__} and a {type(other).__name__}"
    if isinstance(one, Key):
        return difference(one.data, other.data, 0.0, where)
    if isinstance(one, Mapping):
        if list(one) != list(other):
            return f"{place} has the names {list(one)} and {list(other)}"
        pairs = [(f"{where}.{name}" if where else str(name), one[name], other[name]) for name in one]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{place} has the lengths {len(one)} and {len(other)}"
        names = getattr(one, "_fields", range(len(one)))
        pairs = [(f"{where}.{n}" if where else str(n), a, b) for n, a, b in zip(names, one, other, strict=True)]
    elif hasattr(one, "state_dict"):
        return difference(one.state_dict(), other.state_dict(), tolerance, where)
    else:
        return None if one == other else f"{place} is {one!r} and {other!r}"
    return next((found for name, a, b in pairs if (found := difference(a, b, tolerance, name)) is not None), None)


def _tensors_differ(one: Tensor, other: Tensor, tolerance: float, place: str) -> str | None:
    for aspect in ("shape", "dtype", "device"):
        if getattr(one, aspect) != getattr(other, aspect):
            return f"{place} has the {aspect} {getattr(one, aspect)} and {getattr(other, aspect)}"
    if one.numel() == 0 or one.is_meta or torch.equal(one, other):
        return None
    a, b = one.detach().to(torch.float64), other.detach().to(torch.float64)
    both = torch.isclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
    if bool(both.all()):
        return None
    gap = float((a - b)[~both].abs().max())
    share = gap / max(float(a.abs().max()), float(b.abs().max()), 1e-30)
    return None if share <= tolerance else f"{place} differs by {gap:.3g} (relatively {share:.1g})"


def rows_of(outcome: Outcome) -> dict[str, Any]:
    """The numbers of an outcome."""
    return {"loss": outcome.loss, "fitness": outcome.fitness, "metrics": outcome.metrics}


def copied(tree: Any) -> Any:
    """A copy that shares no memory."""
    return copy.deepcopy(tree)


def anew(component: C) -> C:
    """The same component without its cached values."""
    return type(component).model_validate({name: getattr(component, name) for name in type(component).model_fields})


def stored(tree: Any, like: Any = None) -> Any:
    """The tree after a trip through a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), 0, tree)
        loaded = checkpoint.load(Path(folder))
    assert loaded is not None
    return revive(loaded[1], like)


@contextmanager
def isolated() -> Iterator[None]:
    """Give the global random states and the default type back as they were."""
    states, dtype = _random_states(), torch.get_default_dtype()
    try:
        with default_dtype(torch.float32):
            yield
    finally:
        torch.set_rng_state(states["torch"])
        random.setstate(states["random"])
        np.random.set_state(states["numpy"])
        torch.set_default_dtype(dtype)


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Fail where the block draws from a global generator or seeds one."""
    before = _random_states()
    yield
    after = _random_states()
    for name, state in before.items():
        expect(
            difference(_plain(state), _plain(after[name])) is None,
            f"the global random state of {name} was changed: draw from the key instead",
        )


def seed_everything(seed: int) -> None:
    """Seed the global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _random_states() -> dict[str, Any]:
    return {"torch": torch.get_rng_state(), "random": random.getstate(), "numpy": np.random.get_state()}


def _plain(state: Any) -> Any:
    return (
        tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in state)
        if isinstance(state, tuple)
        else state
    )


def expect_no_growth(act: Callable[[], object], what: str, times: int = 4) -> None:
    """Fail where tensors are kept from one call to the next."""
    for _ in range(2):  # caches fill in the first calls
        act()
    with _only_new_objects():
        before = _living_tensors()
        for _ in range(times):
            act()
        more = _living_tensors() - before
    expect(more < times, f"{more} more tensors are alive after {times} more {what}: something keeps them")


@contextmanager
def _only_new_objects() -> Iterator[None]:
    """Let the garbage collector pass over what is there already, for looking at all of it takes long."""
    frozen = gc.get_freeze_count() > 0  # somebody else's, not ours to thaw
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _living_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def expect_no_graph(tree: Any, what: str) -> None:
    """Fail where a tensor still hangs on an autograd graph."""
    if isinstance(tree, Tensor):
        expect(not tree.requires_grad, f"{what} still hangs on an autograd graph")
    elif isinstance(tree, Mapping):
        for name, part in tree.items():
            expect_no_graph(part, f"{what}[{name!r}]")
    elif isinstance(tree, list | tuple):
        for i, part in enumerate(tree):
            expect_no_graph(part, f"{what}[{i}]")
