"""A point to be held at the origin by a continuous force: the smallest tensor environment with continuous actions."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from metaloop_rl.envs.env import TensorEnv
from metaloop_rl.tasks import Environments
from torch import Tensor


class PointParameters(NamedTuple):
    """What may vary."""

    force: Tensor


class Point(TensorEnv[Tensor, PointParameters]):
    """x moves by the action; the reward is -x^2; far away the episode ends."""

    parameters_type: ClassVar[type[Any]] = PointParameters
    discrete: ClassVar[bool] = False
    max_steps: int = 10
    force: float = 0.5

    @property
    def observation(self) -> tuple[int, ...]:
        return (2,)

    @property
    def actions(self) -> int:
        return 1

    def start(self, parameters: PointParameters, key: Key) -> Tensor:
        return key.uniform(low=-1.0, high=1.0, dtype=parameters.force.dtype)

    def advance(
        self, parameters: PointParameters, physics: Tensor, action: Tensor, key: Key
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = physics + parameters.force * action.squeeze(-1)
        return x, -x.square(), x.abs() > 2

    def observe(self, parameters: PointParameters, physics: Tensor) -> Tensor:
        return torch.stack([physics, torch.ones_like(physics)], dim=-1)


POINTS = Environments(env=Point())
