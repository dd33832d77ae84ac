"""The learner: the inner loop. Replace the linear model with your own method."""

from __future__ import annotations

import math
from typing import Self

import torch
from metaloop import Clock, Episode, Incompatible, Key, Outcome, PerTask, Spec, SupervisedSpec
from metaloop.outcome import outcome
from pydantic import Field
from torch import Tensor
from torch.func import grad

Theta = dict[str, Tensor]


class TemplateLearner(PerTask[Theta, Episode, Tensor]):
    """Gradient descent on a linear model; where it starts and how far it steps are meta-learned.

    Written for one task: metaloop batches it. The state is the weights `[features + 1, outputs]`, the last row of which
    is the intercept.
    """

    steps: int = Field(default=5, ge=0, description="inner steps of one adaptation")
    lr: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="learning rate before meta-learning")

    @classmethod
    def example(cls) -> Self:
        """A few steps, quick enough for a test."""
        return cls(steps=2)

    def check(self, spec: Spec) -> None:
        """Regression only.

        Raises:
            Incompatible: another kind of task.
        """
        if not (isinstance(spec, SupervisedSpec) and spec.target == "real"):
            raise Incompatible(f"{type(self).__name__} fits real targets, which {type(spec).__name__} does not promise")

    def init(self, spec: Spec, key: Key) -> Theta:
        """`start` `[features + 1, outputs]` near zero, and `log_lr`, a scalar."""
        assert isinstance(spec, SupervisedSpec)
        start = 0.1 * key.normal(math.prod(spec.inputs) + 1, spec.outputs)
        return {"start": start, "log_lr": torch.full_like(start[0, 0], math.log(self.lr))}

    def begin_one(self, theta: Theta, task: Episode, key: Key) -> Tensor:
        """The learned start."""
        return theta["start"]

    def step_one(self, theta: Theta, state: Tensor, task: Episode, clock: Clock, key: Key) -> Tensor:
        """One step down the support set's squared error."""
        slope: Tensor = grad(_error)(state, task.support_x, task.support_y)
        return state - theta["log_lr"].exp() * slope

    def evaluate_one(self, theta: Theta, state: Tensor, task: Episode, key: Key) -> Outcome:
        """The query set's squared error."""
        return outcome(_error(state, task.query_x, task.query_y))

    def predict(self, theta: Theta, state: Tensor, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, n, outputs]` at inputs `[task, n, *inputs]`, after adapting to a task's own examples."""
        return torch.vmap(_line)(state, inputs)


def _line(weights: Tensor, x: Tensor) -> Tensor:
    """Outputs `[n, outputs]` at inputs `[n, *inputs]`."""
    return x.flatten(1) @ weights[:-1] + weights[-1]


def _error(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (_line(weights, x) - y).square().mean()
