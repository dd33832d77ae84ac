"""The checks of every component: whole ones pass, each broken one trips exactly the checks for its fault."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest
from metaloop import testing
from metaloop.component import Component
from metaloop.testing import components
from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, model_serializer
from torch import nn


def failed(results: list[testing.CheckResult]) -> set[str]:
    return {result.name for result in results if not result.ok}


class Sized(Component):
    """A component as it should be, with a cached module."""

    width: int = Field(default=4, ge=1, description="units")
    rate: float = Field(default=0.5, ge=0.0, lt=1.0, description="share that is dropped")

    @cached_property
    def module(self) -> nn.Module:
        return nn.Linear(1, self.width)


class Undescribed(Sized):
    depth: int = 1


class IgnoresMisspellings(Sized):
    model_config = ConfigDict(extra="ignore")


class NotFrozen(Sized):
    model_config = ConfigDict(frozen=False)


class HoldsAList(Sized):
    sizes: Any = Field(default=None, description="sizes of layers")

    @classmethod
    def example(cls) -> HoldsAList:
        return cls(sizes=[1, 2])


class CopiesStale(Sized):
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any:
        return BaseModel.model_copy(self, update=update, deep=deep)


class ButCopies(Sized):
    def but(self, **changes: Any) -> Any:
        return BaseModel.model_copy(self, update=changes)


class PicklesItsModule(Sized):
    def __getstate__(self) -> Any:
        return BaseModel.__getstate__(self)


class DumpsDefaultsOnly(Sized):
    """What pydantic does with a field typed as a base class: the rest is lost, which defaults hide."""

    @model_serializer(mode="plain")
    def _dump(self, info: SerializationInfo) -> dict[str, Any]:
        return {"component": self.component_id(), "rate": self.rate}


class ComparesByIdentity(Sized):
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class OthersExample(Sized):
    @classmethod
    def example(cls) -> Any:
        return Sized()


class SlowExample(Sized):
    @classmethod
    def example(cls) -> Any:
        sum(range(10_000_000))
        return cls()


BROKEN_COMPONENTS: dict[type[Component], set[str]] = {
    Sized: set(),
    Undescribed: {"fields_are_described"},
    IgnoresMisspellings: {"unknown_field_is_refused"},
    NotFrozen: {"is_frozen"},
    HoldsAList: {"is_frozen", "equal_means_equal_fields"},
    CopiesStale: {"model_copy_refuses_changes"},
    ButCopies: {"but_validates", "but_drops_caches"},
    PicklesItsModule: {"pickle_drops_caches"},
    DumpsDefaultsOnly: {"json_round_trip"},
    ComparesByIdentity: {"equal_means_equal_fields", "pickle_drops_caches"},
    OthersExample: {"example_is_quick"},
    SlowExample: {"example_is_quick"},
}


@pytest.mark.parametrize("cls", BROKEN_COMPONENTS, ids=lambda cls: cls.__name__)
def test_a_broken_component_trips_exactly_its_checks(cls: type[Component], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaloop.testing.components.SECONDS", 0.05)
    component = cls() if cls is OthersExample else cls.example()
    results = testing.check_component(component, on_fail="return")
    assert failed(results) == BROKEN_COMPONENTS[cls], results


def test_nothing_but_defaults_is_warned_about() -> None:
    class Named(Component):
        """A component whose only field has no neighbours to try."""

        title: str = Field(default="a", description="what it is called")

    with pytest.warns(UserWarning, match="default values only"):
        testing.check_component(Named(), on_fail="return")


def test_every_check_has_a_component_that_trips_it() -> None:
    assert set(components.suite.names()) == set().union(*BROKEN_COMPONENTS.values())
