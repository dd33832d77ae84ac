"""Small families and learners with known answers, for tests of meta-optimizers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from metaloop.engine import Engine
from metaloop.key import Key
from metaloop.learner import AnyLearner, PerObject, PerTask
from metaloop.objective import TaskObjective
from metaloop.outcome import Clock, Draw, Outcome, outcome
from metaloop.specs import ObjectiveSpec, Spec
from metaloop.tasks import TaskFamily
from torch import Tensor

Theta = dict[str, Tensor]


class Bowl(NamedTuple):
    """A quadratic with its lowest point at `center` `[task, d]`."""

    center: Tensor


class Bowls(TaskFamily[Bowl, dict[str, Any]]):
    """Quadratics around random centers."""

    dimension: int = 3
    dtype: Any = torch.float64

    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=self.dimension)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Bowl]:
        return Draw(Bowl(key.split(n).normal(self.dimension, dtype=self.dtype)))


class Points(TaskFamily[list[float], dict[str, Any]]):
    """Targets as plain numbers: object tasks."""

    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=1)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Any]:
        return Draw(key.split(n).normal().tolist())


class Distance(PerTask[Theta, Bowl, Tensor]):
    """No inner steps: half the squared distance of `a + b` from the center."""

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"a": key.fold("a").normal(3, dtype=torch.float64), "b": torch.ones((), dtype=torch.float64)}

    def begin_one(self, theta: Theta, task: Bowl, key: Key) -> Tensor:
        return theta["a"] + theta["b"]

    def evaluate_one(self, theta: Theta, state: Tensor, task: Bowl, key: Key) -> Outcome:
        return outcome(0.5 * ((state - task.center) ** 2).sum(), metrics={"near": (state - task.center).norm() < 1})


class Walk(PerTask[Theta, Bowl, Tensor]):
    """Gradient steps of size `rate` from `x` to the center; `x` is what adapts."""

    steps: int = 4
    rate: float = 0.2

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"x": key.normal(3, dtype=torch.float64)}

    def begin_one(self, theta: Theta, task: Bowl, key: Key) -> Tensor:
        return theta["x"]

    def step_one(self, theta: Theta, state: Tensor, task: Bowl, clock: Clock, key: Key) -> Tensor:
        return state - self.rate * (state - task.center)

    def evaluate_one(self, theta: Theta, state: Tensor, task: Bowl, key: Key) -> Outcome:
        return outcome(0.5 * ((state - task.center) ** 2).sum())

    def adapted(self, theta: Theta, state: Tensor) -> Theta:
        return {"x": state}


class Effort(PerTask[Theta, Bowl, Tensor]):
    """A push costs at once and pays one step later: gradients through a window of one step see the cost only.

    Position `p_t = t * push`; the loss after step `t` is `((p_{t-1} - 1)^2 + push^2) / 2`.
    """

    steps: int = 4

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"push": torch.tensor(0.1, dtype=torch.float64)}

    def begin_one(self, theta: Theta, task: Bowl, key: Key) -> Tensor:
        return torch.zeros_like(task.center[:2])

    def step_one(self, theta: Theta, state: Tensor, task: Bowl, clock: Clock, key: Key) -> Tensor:
        return torch.stack([state[1], state[1] + theta["push"]])

    def evaluate_one(self, theta: Theta, state: Tensor, task: Bowl, key: Key) -> Outcome:
        return outcome(0.5 * ((state[0] - 1) ** 2 + theta["push"] ** 2))

    def slope(self, push: float) -> float:
        """The derivative of a whole life's loss, summed over its steps."""
        return sum((t * push - 1) * t + push for t in range(self.steps))

    def best(self) -> float:
        """Where the slope is zero."""
        times = range(self.steps)
        return sum(times) / (sum(t * t for t in times) + self.steps)


class Guess(PerObject[Theta, float, float]):
    """Object tasks: how far the guess `x` is from a number."""

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"x": torch.tensor(3.0)}

    def begin_one(self, theta: Theta, task: float, key: Key) -> float:
        return float(theta["x"])

    def evaluate_one(self, theta: Theta, state: float, task: float, key: Key) -> Outcome:
        return outcome(abs(state - task))._replace(info=[f"guessed {state:.2f}"])


def objective(learner: AnyLearner, n: int = 8, seed: int = 0, family: Any = None) -> TaskObjective[Any]:
    """The core's objective over `n` tasks."""
    return TaskObjective(Engine(learner), family or Bowls(), {}, n, Key.of(seed))
