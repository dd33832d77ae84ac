"""Pendulum: swing up a pole and hold it, with a motor that is too weak to lift it at once."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv, columns, wrapped


class PendulumParameters(NamedTuple):
    """What may vary, `[*batch]` each."""

    gravity: Tensor
    mass: Tensor
    length: Tensor
    torque: Tensor


class PendulumPhysics(NamedTuple):
    """Angle from upright and how fast it turns, `[*batch]` each."""

    theta: Tensor
    speed: Tensor


class Pendulum(TensorEnv[PendulumPhysics, PendulumParameters]):
    """Gymnasium's Pendulum-v1: semi-implicit Euler steps of 0.05 s; never terminates.

    An action of 1 is the greatest torque.
    """

    parameters_type: ClassVar[type[Any]] = PendulumParameters
    discrete: ClassVar[bool] = False

    max_steps: int = Field(default=200, ge=1, description="steps until an episode is truncated")
    gravity: float = Field(default=10.0, gt=0, description="m/s^2")
    mass: float = Field(default=1.0, gt=0, description="kg")
    length: float = Field(default=1.0, gt=0, description="m")
    torque: float = Field(default=2.0, gt=0, description="the greatest, N m")

    tau: ClassVar[float] = 0.05
    """Seconds a step."""
    fastest: ClassVar[float] = 8.0
    """Bound of the speed, rad/s."""

    @property
    def observation(self) -> tuple[int, ...]:
        """Cosine and sine of the angle, speed."""
        return (3,)

    @property
    def actions(self) -> int:
        """The torque."""
        return 1

    def start(self, parameters: PendulumParameters, key: Key) -> PendulumPhysics:
        """An angle uniform in [-pi, pi), a speed uniform in [-1, 1)."""
        theta, speed = key.uniform(2, low=-1.0, high=1.0, dtype=parameters.gravity.dtype).unbind(-1)
        return PendulumPhysics(math.pi * theta, speed)

    def advance(
        self, parameters: PendulumParameters, physics: PendulumPhysics, action: Tensor, key: Key
    ) -> tuple[PendulumPhysics, Tensor, Tensor]:
        """One step; its cost counts where it began: angle^2 + 0.1 speed^2 + 0.001 torque^2."""
        p, (theta, speed) = parameters, physics
        torque = p.torque * action[..., 0]
        cost = wrapped(theta).square() + 0.1 * speed.square() + 0.001 * torque.square()
        turn = 1.5 * p.gravity / p.length * theta.sin() + 3.0 / (p.mass * p.length.square()) * torque
        speed = (speed + self.tau * turn).clamp(-self.fastest, self.fastest)
        new = PendulumPhysics(theta + self.tau * speed, speed)
        return new, -cost, torch.zeros_like(cost, dtype=torch.bool)

    def observe(self, parameters: PendulumParameters, physics: PendulumPhysics) -> Tensor:
        """`[*batch, 3]`."""
        return columns(physics.theta.cos(), physics.theta.sin(), physics.speed)
