"""MountainCar: a car too weak for the hill it is to leave, with pushes or a throttle (Moore 1990)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv, columns


class MountainCarParameters(NamedTuple):
    """What may vary, `[*batch]` each."""

    gravity: Tensor
    force: Tensor
    goal: Tensor


class MountainCarPhysics(NamedTuple):
    """Where the car is, `[*batch]` each."""

    position: Tensor
    velocity: Tensor


class _Hill(TensorEnv[MountainCarPhysics, MountainCarParameters]):
    """The valley, the same for both cars."""

    parameters_type: ClassVar[type[Any]] = MountainCarParameters

    left: ClassVar[float] = -1.2
    right: ClassVar[float] = 0.6
    fastest: ClassVar[float] = 0.07

    @property
    def observation(self) -> tuple[int, ...]:
        """Position, velocity."""
        return (2,)

    def start(self, parameters: MountainCarParameters, key: Key) -> MountainCarPhysics:
        """At rest, uniform in [-0.6, -0.4)."""
        position = key.uniform(low=-0.6, high=-0.4, dtype=parameters.gravity.dtype)
        return MountainCarPhysics(position, torch.zeros_like(position))

    def drive(
        self, parameters: MountainCarParameters, physics: MountainCarPhysics, push: Tensor
    ) -> tuple[MountainCarPhysics, Tensor]:
        """One step with a push `[*batch]` in units of the engine's force; whether the goal is reached."""
        p, (position, velocity) = parameters, physics
        velocity = velocity + push * p.force - p.gravity * (3 * position).cos()
        velocity = velocity.clamp(-self.fastest, self.fastest)
        position = (position + velocity).clamp(self.left, self.right)
        velocity = torch.where((position == self.left) & (velocity < 0), torch.zeros_like(velocity), velocity)
        return MountainCarPhysics(position, velocity), (position >= p.goal) & (velocity >= 0)

    def observe(self, parameters: MountainCarParameters, physics: MountainCarPhysics) -> Tensor:
        """`[*batch, 2]`."""
        return columns(*physics)


class MountainCar(_Hill):
    """Gymnasium's MountainCar-v0: a reward of -1 a step until the goal is reached."""

    max_steps: int = Field(default=200, ge=1, description="steps until an episode is truncated")
    gravity: float = Field(default=0.0025, gt=0, description="pull of the slope, per step^2")
    force: float = Field(default=0.001, gt=0, description="of the engine, per step^2")
    goal: float = Field(default=0.5, description="position to reach")

    @property
    def actions(self) -> int:
        """Push left, none, right."""
        return 3

    def advance(
        self, parameters: MountainCarParameters, physics: MountainCarPhysics, action: Tensor, key: Key
    ) -> tuple[MountainCarPhysics, Tensor, Tensor]:
        """One step."""
        new, there = self.drive(parameters, physics, action - 1)
        return new, torch.full_like(new.position, -1.0), there


class MountainCarContinuous(_Hill):
    """Gymnasium's MountainCarContinuous-v0: 100 for the goal, less 0.1 of the throttle's square each step."""

    discrete: ClassVar[bool] = False

    max_steps: int = Field(default=999, ge=1, description="steps until an episode is truncated")
    gravity: float = Field(default=0.0025, gt=0, description="pull of the slope, per step^2")
    force: float = Field(default=0.0015, gt=0, description="of the engine at full throttle, per step^2")
    goal: float = Field(default=0.45, description="position to reach")

    @property
    def actions(self) -> int:
        """The throttle."""
        return 1

    def advance(
        self, parameters: MountainCarParameters, physics: MountainCarPhysics, action: Tensor, key: Key
    ) -> tuple[MountainCarPhysics, Tensor, Tensor]:
        """One step."""
        throttle = action[..., 0]
        new, there = self.drive(parameters, physics, throttle)
        return new, 100.0 * there - 0.1 * throttle.square(), there
