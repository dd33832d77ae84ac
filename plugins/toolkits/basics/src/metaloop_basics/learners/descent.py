"""Gradient descent on a linear model of each task: what a linear self-attention layer can do in context.

Von Oswald et al. 2023 (arXiv:2212.07677), section 2.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Clock, Episode, Outcome
from metaloop.specs import Spec, SupervisedSpec
from pydantic import Field
from torch import Tensor

from metaloop_basics.learners.supervised import judged, supervised


class GradientDescent(Learner[dict[str, Tensor], Episode, Tensor]):
    """Descend `L(W) = 1/(2N) sum_i |W x_i - y_i|^2` on the N support examples; the state is `W` `[task, outputs, d]`.

    theta holds the step size `lr` (one, or one per step) and, with `start="learned"`, the first `W`. Without a
    meta-optimizer they stay as the fields say.
    """

    steps: int = Field(default=1, ge=0, description="gradient steps")
    lr: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="first step size, eta in the paper")
    per_step: bool = Field(default=False, description="a step size of its own for every step")
    start: Literal["zero", "learned"] = Field(default="zero", description="W before the first step")

    @classmethod
    def example(cls) -> Self:
        """Two steps from zero."""
        return cls(steps=2, lr=0.5, per_step=True)

    def check(self, spec: Spec) -> None:
        """Accept episodes with real targets.

        Raises:
            Incompatible: targets are classes.
        """
        if supervised(self, spec).target != "real":
            raise Incompatible(
                "GradientDescent fits real targets, these tasks have classes: use basics/ridge or basics/maml"
            )

    def init(self, spec: Spec, key: Key) -> dict[str, Tensor]:
        """`lr` (a scalar, or `[steps]`) and, where it is learned, `weight` `[outputs, d]` of zeros."""
        assert isinstance(spec, SupervisedSpec)
        shape = (self.steps,) if self.per_step else ()
        theta = {"lr": torch.full(shape, self.lr, dtype=torch.get_default_dtype(), device=key.device)}
        if self.start == "learned":
            theta["weight"] = theta["lr"].new_zeros(spec.outputs, torch.Size(spec.inputs).numel())
        return theta

    def begin(self, theta: dict[str, Tensor], tasks: Episode, keys: Key) -> Tensor:
        """The first `W` of every task."""
        x, y = tasks.support_x.flatten(2), tasks.support_y
        shape = (len(x), y.shape[-1], x.shape[-1])
        return theta["weight"].expand(shape) if self.start == "learned" else x.new_zeros(shape)

    def step(self, theta: dict[str, Tensor], state: Tensor, tasks: Episode, clock: Clock, keys: Key) -> Tensor:
        """`W - lr/N sum_i (W x_i - y_i) x_i^T`."""
        x = tasks.support_x.flatten(2)
        residual = x @ state.mT - tasks.support_y  # [task, shot, outputs]
        # Past its lifetime a life is stepped too, and the core drops the result: any rate will do there.
        lr = theta["lr"][clock.step.clamp(max=self.steps - 1)][:, None, None] if self.per_step else theta["lr"]
        return state - lr / x.shape[1] * (residual.mT @ x)

    def evaluate(self, theta: dict[str, Tensor], state: Tensor, tasks: Episode, keys: Key) -> Outcome:
        """Mean squared error on the query set."""
        return judged(self.predict(theta, state, tasks.query_x, keys), tasks.query_y)

    def predict(self, theta: dict[str, Tensor], state: Tensor, inputs: Tensor, keys: Key) -> Tensor:
        """`W x`, `[task, n, outputs]`."""
        return inputs.flatten(2) @ state.mT
