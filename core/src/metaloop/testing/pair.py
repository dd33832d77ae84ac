"""A learner under test with tasks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metaloop import tree
from metaloop.engine import Engine
from metaloop.key import Key
from metaloop.learner import AnyLearner
from metaloop.objective import TaskObjective
from metaloop.outcome import Outcome
from metaloop.tasks import AnyTaskFamily
from metaloop.testing.compare import (
    anew,
)

SINGLE, DOUBLE = 1e-5, 1e-10
"""Greatest relative difference between two ways to compute the same, in float32 and in float64."""


@dataclass(frozen=True)
class Pair:
    """A learner under test and tasks for it."""

    learner: AnyLearner
    family: AnyTaskFamily

    @property
    def n(self) -> int:
        """Four tasks, or as many as there are."""
        return min(4, self.family.size or 4)

    def anew(self) -> Pair:
        """The same without cached values, which may have another type of floats."""
        return Pair(anew(self.learner), anew(self.family))

    def theta(self, seed: int = 0) -> Any:
        """First meta-parameters."""
        return self.learner.init(self.family.spec, Key.of(seed))

    def objective(self) -> TaskObjective[Any]:
        """The inner loop over the same tasks and keys each time."""
        family_state = self.family.begin(Key.of(1))
        return TaskObjective(Engine(self.learner), self.family, family_state, self.n, Key.of(2))

    def live(self, theta: Any, rows: slice | None = None) -> Outcome:
        """Whole lives on some of the objective's tasks."""
        tasks, keys = self.objective().draw.tasks, Key.of(3).split(self.n)
        rows = rows or slice(0, self.n)
        return Engine(self.learner).live(theta, _take(tasks, rows), keys[rows])

    @property
    def longest(self) -> int:
        """The longest lifetime among the tasks."""
        return self.learner.longest(self.objective().draw.tasks)


def _take(tasks: Any, rows: slice) -> Any:
    return tasks[rows] if isinstance(tasks, list) else tree.index(tasks, rows)
