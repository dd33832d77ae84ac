"""Reptile: move theta towards what learners adapt it to (Nichol et al. 2018, arXiv:1803.02999)."""

from __future__ import annotations

from typing import Self

from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import Adapts, AnyLearner
from metaloop.meta_optimizer import needs_tensors
from metaloop.objective import Objective
from metaloop.outcome import Outcome
from pydantic import Field

from metaloop_basics.meta_optimizers.descent import Descent, DescentState, Theta


class Reptile(Descent[DescentState]):
    """Use theta minus the mean adapted theta as a gradient.

    With the default SGD this is the paper's batched update, theta + lr * mean(adapted - theta). For images the paper
    starts at `lr=1` and anneals it linearly to zero: `schedule="LinearLR"` with options `start_factor=1`,
    `end_factor=0` and `total_iters`.
    """

    optimizer: str = Field(default="SGD", description="name of a class in torch.optim")
    lr: float = Field(default=0.1, ge=0, allow_inf_nan=False, description="outer step size: with SGD and 1, the mean")

    @classmethod
    def example(cls) -> Self:
        """A step size high enough to see progress in a few steps."""
        return cls(lr=0.3)

    def check(self, learner: AnyLearner) -> None:
        """Accept learners that can say what theta adapted to."""
        needs_tensors(self, learner)
        if not isinstance(learner, Adapts):
            raise Incompatible(
                f"Reptile needs to know what theta adapted to, but {type(learner).__name__} has no `adapted` method"
            )

    def begin(self, theta: Theta, key: Key) -> DescentState:
        """The torch optimizer's first state."""
        return self.begin_descent(theta)

    def step(
        self, theta: Theta, state: DescentState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, DescentState, Outcome]:
        """One adaptation of every task and one step of the torch optimizer."""
        adapted, outcome = objective.adapt(theta)  # [task, ...]
        away = {name: value - adapted[name].mean(0) for name, value in theta.items()}
        return *self.descend(theta, state, away, outcome.loss), outcome
