"""When to stop, as something to learn: the closed form is differentiable in the number of steps."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from metaloop import Key, Spec
from metaloop.errors import Incompatible
from pydantic import Field
from torch import Tensor

from metaloop_double_descent.grid import Factors, GridSpec, Point
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.random_features import RandomFeatures, Theta


class EarlyStopping(RandomFeatures):
    """Random features whose number of gradient steps T is meta-learned: theta is `log_steps`, natural, a scalar.

    As ridge regression with a penalty near `1 / (eta T)`. The learning rate is below 1, where T need not be whole.
    """

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "tensors"

    factors: Factors = Field(default=Factors(steps=100.0, lr=0.5), description="how to fit; `steps` is where T begins")

    @classmethod
    def example(cls) -> Self:
        """Few features."""
        return cls(width=6, factors=Factors(steps=20.0, lr=0.5), data=NoisyImages.example())

    def check(self, spec: Spec) -> None:
        """Accept episodes of real targets.

        Raises:
            Incompatible: it is a grid, whose rows say how long they take, or T can't be learned from where it begins.
        """
        if isinstance(spec, GridSpec):
            raise Incompatible("EarlyStopping learns the number of steps, and a grid's rows have theirs: use episodes")
        if self.factors.steps == float("inf") or self.factors.lr * self.factors.scale**2 >= 1:
            raise Incompatible("EarlyStopping needs factors with finite steps to begin at, and lr * scale^2 below 1")
        super().check(spec)

    def init(self, spec: Spec, key: Key) -> Theta:
        """The logarithm of `factors.steps`."""
        steps = torch.tensor(self.factors.steps, dtype=torch.get_default_dtype(), device=key.device)
        return {"log_steps": steps.log()}

    def scheduled(self, theta: Theta, points: Point) -> Point:
        """All rows with the learned number of steps."""
        steps: Tensor = theta["log_steps"].double().exp()
        return points._replace(steps=steps.expand(len(points.width)))
