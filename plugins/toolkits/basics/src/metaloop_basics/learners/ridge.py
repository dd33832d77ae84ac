"""Ridge regression on each task's examples, in closed form."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Episode, Outcome
from metaloop.specs import Spec
from pydantic import Field
from torch import Tensor

from metaloop_basics.learners.supervised import check_ways, judged, one_hot, supervised


class Fit(NamedTuple):
    """A linear model of each task."""

    weight: Tensor
    """`[task, inputs, outputs]`."""
    bias: Tensor
    """`[task, 1, outputs]`."""


class Ridge(Learner[dict[str, Tensor], Episode, Fit]):
    """Minimise `sum (w . x - y)^2 + penalty |w|^2` over the support set: a baseline with nothing to meta-learn.

    With `penalty=0` it is the least-squares solution of smallest norm. Classes are regressed as indicators; their
    outputs are judged by squared error against those and by `accuracy`.
    """

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"

    steps: int = Field(default=0, ge=0, le=0, description="none: the solution has a closed form")
    penalty: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="weight of |w|^2 (scikit-learn's alpha)")
    intercept: bool = Field(default=False, description="fit an intercept, which is not penalised")
    ways: int | None = Field(default=None, ge=2, description="classes of an episode, where targets are classes")

    @classmethod
    def example(cls) -> Self:
        """A small penalty."""
        return cls(penalty=0.1)

    def check(self, spec: Spec) -> None:
        """Accept episodes of numbers, and of `ways` classes."""
        episodes = supervised(self, spec)
        if episodes.target == "class":
            check_ways(self, self.ways, episodes)

    def begin(self, theta: Any, tasks: Episode, keys: Key) -> Fit:
        """The solution: by the normal equations of whichever is fewer, inputs or examples."""
        x, y = tasks.support_x.flatten(2), self._targets(tasks.support_x, tasks.support_y)
        x_mean, y_mean = (part.mean(1, keepdim=True) * float(self.intercept) for part in (x, y))
        x, y = x - x_mean, y - y_mean
        with torch.autocast(x.device.type, enabled=False):  # torch solves in full precision only
            weight = _solve(x, y, self.penalty)
        return Fit(weight, y_mean - x_mean @ weight)

    def evaluate(self, theta: Any, state: Fit, tasks: Episode, keys: Key) -> Outcome:
        """Squared error on the query set."""
        outputs = self.predict(theta, state, tasks.query_x, keys)
        out = judged(outputs, self._targets(tasks.query_x, tasks.query_y))
        return out if self.ways is None else out._replace(metrics=judged(outputs, tasks.query_y).metrics)

    def predict(self, theta: Any, state: Fit, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, n, outputs]`."""
        return inputs.flatten(2) @ state.weight + state.bias

    def _targets(self, x: Tensor, y: Tensor) -> Tensor:
        return y if y.is_floating_point() else one_hot(y, self.ways or 0, x)


def _solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """`[task, inputs, outputs]` from `x` `[task, shot, inputs]` and `y` `[task, shot, outputs]`."""
    weight: Tensor
    if penalty == 0:
        weight = torch.linalg.pinv(x) @ y
        return weight
    eye = torch.eye(min(x.shape[1:]), dtype=x.dtype, device=x.device)
    if x.shape[2] <= x.shape[1]:
        weight = torch.linalg.solve(x.mT @ x + penalty * eye, x.mT @ y)
    else:
        weight = x.mT @ torch.linalg.solve(x @ x.mT + penalty * eye, y)
    return weight
