"""Acrobot: two links that hang, swung up by a torque at the joint between them (Sutton 1996)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from metaloop import Key
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv, columns, wrapped


class AcrobotParameters(NamedTuple):
    """What may vary, `[*batch]` each."""

    gravity: Tensor
    mass_1: Tensor
    mass_2: Tensor
    length_1: Tensor
    center_1: Tensor
    center_2: Tensor
    inertia: Tensor
    torque: Tensor


class AcrobotPhysics(NamedTuple):
    """How the links hang and turn, `[*batch]` each; angles from straight down, the second one from the first link."""

    theta_1: Tensor
    theta_2: Tensor
    speed_1: Tensor
    speed_2: Tensor


class Acrobot(TensorEnv[AcrobotPhysics, AcrobotParameters]):
    """Gymnasium's Acrobot-v1: the book's equations, one Runge-Kutta step of 0.2 s, a reward of -1 until it is up."""

    parameters_type: ClassVar[type[Any]] = AcrobotParameters

    max_steps: int = Field(default=500, ge=1, description="steps until an episode is truncated")
    gravity: float = Field(default=9.8, gt=0, description="m/s^2")
    mass_1: float = Field(default=1.0, gt=0, description="of the upper link, kg")
    mass_2: float = Field(default=1.0, gt=0, description="of the lower link, kg")
    length_1: float = Field(default=1.0, gt=0, description="of the upper link, m")
    center_1: float = Field(default=0.5, gt=0, description="from its upper end to the upper link's centre of mass, m")
    center_2: float = Field(default=0.5, gt=0, description="from its upper end to the lower link's centre of mass, m")
    inertia: float = Field(default=1.0, gt=0, description="moment of inertia of each link, kg m^2")
    torque: float = Field(default=1.0, gt=0, description="at the joint between the links, N m")

    tau: ClassVar[float] = 0.2
    """Seconds a step."""
    fastest: ClassVar[tuple[float, float]] = (4 * math.pi, 9 * math.pi)
    """Bounds of the links' speeds, rad/s."""

    @property
    def observation(self) -> tuple[int, ...]:
        """Cosine and sine of both angles, both speeds."""
        return (6,)

    @property
    def actions(self) -> int:
        """Torque one way, none, the other way."""
        return 3

    def start(self, parameters: AcrobotParameters, key: Key) -> AcrobotPhysics:
        """All four values uniform in [-0.1, 0.1)."""
        return AcrobotPhysics(*key.uniform(4, low=-0.1, high=0.1, dtype=parameters.gravity.dtype).unbind(-1))

    def advance(
        self, parameters: AcrobotParameters, physics: AcrobotPhysics, action: Tensor, key: Key
    ) -> tuple[AcrobotPhysics, Tensor, Tensor]:
        """One Runge-Kutta step of fourth order; a step that ends with the tip above the bar costs nothing."""
        torque = (action - 1) * parameters.torque

        def moved(by: AcrobotPhysics, seconds: float) -> AcrobotPhysics:
            return AcrobotPhysics(*(now + seconds * rate for now, rate in zip(physics, by, strict=True)))

        one = self.rates(parameters, physics, torque)
        two = self.rates(parameters, moved(one, self.tau / 2), torque)
        three = self.rates(parameters, moved(two, self.tau / 2), torque)
        four = self.rates(parameters, moved(three, self.tau), torque)
        mean = AcrobotPhysics(*((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(one, two, three, four, strict=True)))
        theta_1, theta_2, speed_1, speed_2 = moved(mean, self.tau)
        new = AcrobotPhysics(
            wrapped(theta_1),
            wrapped(theta_2),
            speed_1.clamp(-self.fastest[0], self.fastest[0]),
            speed_2.clamp(-self.fastest[1], self.fastest[1]),
        )
        terminated = -new.theta_1.cos() - (new.theta_1 + new.theta_2).cos() > 1.0
        return new, -(~terminated).to(new.theta_1.dtype), terminated

    @staticmethod
    def rates(parameters: AcrobotParameters, physics: AcrobotPhysics, torque: Tensor) -> AcrobotPhysics:
        """How fast each value changes, by the equations of Sutton & Barto's book."""
        p, (theta_1, theta_2, speed_1, speed_2) = parameters, physics
        sin, cos = theta_2.sin(), theta_2.cos()
        coupling = p.mass_2 * p.length_1 * p.center_2
        own = p.mass_2 * p.center_2**2 + p.inertia
        d_1 = p.mass_1 * p.center_1**2 + p.mass_2 * p.length_1**2 + 2 * coupling * cos + own + p.inertia
        d_2 = own + coupling * cos
        phi_2 = p.mass_2 * p.center_2 * p.gravity * (theta_1 + theta_2).sin()
        phi_1 = (
            -coupling * sin * speed_2 * (speed_2 + 2 * speed_1)
            + (p.mass_1 * p.center_1 + p.mass_2 * p.length_1) * p.gravity * theta_1.sin()
            + phi_2
        )
        turn_2 = (torque + d_2 / d_1 * phi_1 - coupling * speed_1**2 * sin - phi_2) / (own - d_2**2 / d_1)
        turn_1 = -(d_2 * turn_2 + phi_1) / d_1
        return AcrobotPhysics(speed_1, speed_2, turn_1, turn_2)

    def observe(self, parameters: AcrobotParameters, physics: AcrobotPhysics) -> Tensor:
        """`[*batch, 6]`."""
        theta_1, theta_2, speed_1, speed_2 = physics
        return columns(theta_1.cos(), theta_1.sin(), theta_2.cos(), theta_2.sin(), speed_1, speed_2)
