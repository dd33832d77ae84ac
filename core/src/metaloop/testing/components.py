"""What every component promises: it loads as what was saved, and never changes."""

from __future__ import annotations

import pickle
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from metaloop import plugins
from metaloop.component import Component
from metaloop.errors import UserError
from metaloop.executors import Executor
from metaloop.learner import Learner
from metaloop.manifest import Kind, Part, Plugin
from metaloop.meta_optimizer import MetaOptimizer
from metaloop.stage import Stage
from metaloop.tasks import TaskFamily
from metaloop.testing.compare import anew, expect
from metaloop.testing.model import CheckResult, OnFail, Suite, run

C = TypeVar("C", bound=Component)

BASES: dict[Kind, type[Component]] = {
    "tasks": TaskFamily,
    "learner": Learner,
    "meta-optimizer": MetaOptimizer,
    "stage": Stage,
    "part": Component,
    "executor": Executor,
}
"""What a component of each kind derives from."""

SECONDS = 2.0
"""CPU time within which an example is made."""

suite = Suite[Component]()


def check_component(
    component: Component, *, expected_failures: Mapping[str, str] | None = None, on_fail: OnFail = "raise"
) -> list[CheckResult]:
    """Check what every component promises, on an instance whose fields best differ from their defaults.

    Args:
        component: what to check.
        expected_failures: check name -> reason; a check named here that passes counts as failed.
        on_fail: `"raise"`, or `"return"` to have the failures among the results.

    Raises:
        CheckFailed: a check failed.
    """
    return run(type(component).__name__, suite.cases(component), expected_failures, on_fail)


def varied(component: C) -> C:
    """The component with its numbers and flags moved away from where they are, as far as its validation allows."""
    for name in type(component).model_fields:
        for candidate in _others(getattr(component, name)):
            try:
                component = component.but(**{name: candidate})
                break
            except (ValueError, TypeError, UserError):
                continue
    return component


def _others(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value * 1.5, value / 2, value + 0.5)
    elif isinstance(value, Component):
        yield varied(value)


def _instances(component: C) -> list[C]:
    """The component, and one with other values: a fault in loading hides behind defaults."""
    other = varied(component)
    if other == component and not component.model_fields_set and type(component).model_fields:
        warnings.warn(
            f"{type(component).__name__} was checked with default values only: give an instance with other values",
            stacklevel=2,
        )
    return [component, other]


def _parts(value: Any) -> Iterator[Component]:
    """All components inside a value, itself included."""
    if isinstance(value, Component):
        yield value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)


def _kind(cls: type[Component]) -> Kind:
    return next(kind for kind, base in BASES.items() if issubclass(cls, base))


@contextmanager
def _loadable(component: Component) -> Iterator[None]:
    """Offer the parts that no plugin names, so that a field typed as a base class can load them by their id."""
    classes = {type(part) for part in _parts(component) if plugins.id_of(type(part)) is None}
    name = "conformance"
    parts = tuple(
        Part(f"{name}/{i}", _kind(cls), f"{cls.__module__}:{cls.__qualname__}")
        for i, cls in enumerate(sorted(classes, key=lambda cls: cls.__qualname__))
    )
    with plugins.registered(Plugin(name, "components under test", components=parts)):
        yield


@suite.check
def json_round_trip(component: Component) -> None:
    """A run file gives back the same component, with values other than the defaults too."""
    with _loadable(component):
        for instance in _instances(component):
            loaded = type(instance).model_validate_json(instance.model_dump_json())
            for name in type(instance).model_fields:
                saved, came = getattr(instance, name), getattr(loaded, name)
                expect(
                    type(came) is type(saved) and came == saved, f"field {name!r} was {saved!r} and loads as {came!r}"
                )


@suite.check
def unknown_field_is_refused(component: Component) -> None:
    """A misspelt field is an error, not ignored."""
    fields = {name: getattr(component, name) for name in type(component).model_fields}
    try:
        type(component).model_validate({**fields, "no_such_field": 1})
    except ValidationError:
        return
    raise AssertionError('a field that does not exist is accepted: keep extra="forbid"')


@suite.check
def fields_are_described(component: Component) -> None:
    """Every field says in the schema what it means."""
    properties = type(component).model_json_schema().get("properties", {})
    silent = [name for name in type(component).model_fields if not properties.get(name, {}).get("description")]
    expect(not silent, f"no description: {', '.join(silent)}; write Field(..., description=...)")


@suite.check
def model_copy_refuses_changes(component: Component) -> None:
    """A copy with changes would keep stale cached values."""
    for name in type(component).model_fields:
        try:
            component.model_copy(update={name: getattr(component, name)})
        except TypeError:
            return
        raise AssertionError("model_copy(update=...) is allowed, which keeps stale cached values")


@suite.check
def but_validates(component: Component) -> None:
    """`but` refuses what the constructor refuses."""
    try:
        component.but(no_such_field=1)
    except (UserError, ValidationError):
        pass
    else:
        raise AssertionError("but(...) accepts a field that does not exist")
    for name in type(component).model_fields:
        if isinstance(getattr(component, name), int | float):
            try:
                component.but(**{name: "not a number"})
            except (UserError, ValidationError):
                return
            raise AssertionError(f"but({name}='not a number') is accepted")


@suite.check
def but_drops_caches(component: Component) -> None:
    """A changed component builds its modules anew."""
    assert component.warmed
    other = varied(component)
    stale = vars(other).keys() - type(other).model_fields.keys() if other is not component else set()
    expect(not stale, f"but(...) keeps the cached {', '.join(sorted(stale))} of the component it was made from")


@suite.check
def pickle_drops_caches(component: Component) -> None:
    """What is sent to workers is the fields only."""
    assert component.warmed
    back = pickle.loads(pickle.dumps(component))  # our own bytes, in this process
    expect(back == component, "a pickled component comes back different")
    cached = vars(back).keys() - type(back).model_fields.keys()
    expect(not cached, f"a pickled component carries the cached {', '.join(sorted(cached))} along")


@suite.check
def equal_means_equal_fields(component: Component) -> None:
    """Equal fields give equal components and hashes, whatever is cached."""
    twin = anew(component)
    assert component.warmed
    expect(twin == component, "two components with the same fields are not equal")
    expect(hash(twin) == hash(component), "two components with the same fields have different hashes")
    other = varied(component)
    if any(getattr(other, name) != getattr(component, name) for name in type(component).model_fields):
        expect(other != component, "components with different fields are equal")


@suite.check
def is_frozen(component: Component) -> None:
    """Neither a field nor what it holds can be changed."""
    for name in type(component).model_fields:
        value = getattr(component, name)
        expect(not _mutable(value), f"field {name!r} holds a mutable {type(value).__name__}: use a tuple or Options")
        try:
            setattr(component, name, value)
        except ValidationError:
            continue
        raise AssertionError(f"field {name!r} can be set: keep frozen=True")


def _mutable(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_mutable(item) for item in value)
    return isinstance(value, list | dict | set | bytearray | np.ndarray | Tensor)


@suite.check
def example_is_quick(component: Component) -> None:
    """`example()` makes a tiny instance at once."""
    start = time.process_time()
    example = type(component).example()
    seconds = time.process_time() - start
    expect(type(example) is type(component), f"example() gives a {type(example).__name__}")
    expect(seconds < SECONDS, f"example() takes {seconds:.1f} s of CPU time; {SECONDS:.0f} s are allowed")
