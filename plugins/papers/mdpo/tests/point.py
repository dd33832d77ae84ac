"""A point to be held at the origin by a continuous force: the smallest tensor environment with continuous actions."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
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


class PointEnv(gymnasium.Env[Any, Any]):
    """`Point` as a Gymnasium environment from 1, with rewards four hundred times as large."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    x = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = 1.0
        return np.array([self.x], dtype=np.float32), {}

    def step(self, action: Any) -> Any:
        self.x = float(np.clip(self.x + 0.5 * action[0], -2, 2))
        return np.array([self.x], dtype=np.float32), -400 * self.x**2, False, False, {}


GYM_POINT = "MetaloopPoint-v0"
gymnasium.register(GYM_POINT, entry_point=PointEnv, max_episode_steps=5)
