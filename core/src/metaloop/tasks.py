"""Where tasks come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from metaloop.component import Component
from metaloop.key import Key
from metaloop.outcome import Draw, Outcome
from metaloop.specs import Spec

Tasks = TypeVar("Tasks")
FamilyState = TypeVar("FamilyState")


class TaskFamily(Component, Generic[Tasks, FamilyState]):
    """A distribution over tasks.

    Tasks are data: a NamedTuple of tensors with a leading task axis, or a list of plain values that describe objects
    (a world's parameters, an exercise). A curriculum is a family that wraps another one and learns from `observe`.
    """

    @property
    def spec(self) -> Spec:
        """What kind of task this is; a wrapping family passes on its inner one's."""
        raise NotImplementedError(f"{type(self).__name__} must say its spec")

    @property
    def size(self) -> int | None:
        """How many tasks there are, for finite families (grids, tables); None where they are drawn without end."""
        return None

    def begin(self, key: Key) -> FamilyState:
        """The family's own first state; empty for a family that does not learn."""
        return {}  # type: ignore[return-value]

    def sample(self, state: FamilyState, n: int, key: Key) -> Draw[Tasks]:
        """Draw `n` tasks; pure. Tensors are made on `key.device`. A finite family gives all tasks when `n == size`."""
        raise NotImplementedError(f"{type(self).__name__} must implement sample")

    def observe(self, state: FamilyState, draw: Draw[Tasks], outcome: Outcome) -> FamilyState:
        """Learn from how the tasks of a draw went (one row per task); the default learns nothing.

        Where lives last over several outer steps, `outcome.done` says whose life ended.
        """
        return state

    def columns(self, tasks: Tasks) -> Mapping[str, Sequence[Any]]:
        """What these tasks are, as columns of `Result.table`: one plain value per task in each; none by default."""
        return {}


if TYPE_CHECKING:
    AnyTaskFamily = TaskFamily[Any, Any]
else:  # pydantic would take a parametrised generic for a class of its own
    AnyTaskFamily = TaskFamily
