"""The meta-optimizer: the outer loop. Replace the sign descent with your own."""

from __future__ import annotations

from typing import Self

import torch
from metaloop import Key, MetaOptimizer, Objective, Outcome
from metaloop.learner import AnyLearner
from metaloop.meta_optimizer import needs_gradient
from pydantic import Field
from torch import Tensor

Theta = dict[str, Tensor]


class TemplateMetaOptimizer(MetaOptimizer[Theta, Theta]):
    """Each number of theta moves by `lr` against the sign of its averaged gradient (signum, Bernstein et al. 2018).

    The state is the average, named and shaped as theta is.
    """

    lr: float = Field(default=1e-3, ge=0, allow_inf_nan=False, description="how far each number moves in a step")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="weight of the past in the average")

    @classmethod
    def example(cls) -> Self:
        """A rate high enough to see progress in a few steps."""
        return cls(lr=0.05, momentum=0.5)

    def check(self, learner: AnyLearner) -> None:
        """Learners that can be differentiated.

        Raises:
            Incompatible: another learner.
        """
        needs_gradient(self, learner)

    def begin(self, theta: Theta, key: Key) -> Theta:
        """An average of nothing."""
        return {name: torch.zeros_like(value) for name, value in theta.items()}

    def step(self, theta: Theta, state: Theta, objective: Objective[Theta], key: Key) -> tuple[Theta, Theta, Outcome]:
        """One outer step on the objective's tasks."""
        gradient, outcome = objective.grad(theta)
        average = {name: torch.lerp(gradient[name], state[name], self.momentum) for name in theta}
        moved = {name: value - self.lr * average[name].sign() for name, value in theta.items()}
        return moved, average, outcome
