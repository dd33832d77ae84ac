"""CartPole: a pole on a cart, balanced by pushing left or right (Barto, Sutton & Anderson 1983)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv, columns


class CartPoleParameters(NamedTuple):
    """What may vary, `[*batch]` each."""

    gravity: Tensor
    cart_mass: Tensor
    pole_mass: Tensor
    half_length: Tensor
    force: Tensor


class CartPolePhysics(NamedTuple):
    """Where the cart and its pole are, `[*batch]` each."""

    x: Tensor
    x_dot: Tensor
    theta: Tensor
    theta_dot: Tensor


class CartPole(TensorEnv[CartPolePhysics, CartPoleParameters]):
    """Gymnasium's CartPole-v1: the same equations, Euler steps of 0.02 s, bounds and rewards."""

    parameters_type: ClassVar[type[Any]] = CartPoleParameters

    max_steps: int = Field(default=500, ge=1, description="steps until an episode is truncated")
    gravity: float = Field(default=9.8, gt=0, description="m/s^2")
    cart_mass: float = Field(default=1.0, gt=0, description="kg")
    pole_mass: float = Field(default=0.1, gt=0, description="kg")
    half_length: float = Field(default=0.5, gt=0, description="half of the pole's length, m")
    force: float = Field(default=10.0, gt=0, description="of a push, N")

    tau: ClassVar[float] = 0.02
    """Seconds a step."""
    limit: ClassVar[float] = 2.4
    """Where the track ends, m."""
    angle: ClassVar[float] = 12 * math.pi / 180
    """From where the pole counts as fallen."""

    @property
    def observation(self) -> tuple[int, ...]:
        """Position, speed, angle, angular speed."""
        return (4,)

    @property
    def actions(self) -> int:
        """Left, right."""
        return 2

    def start(self, parameters: CartPoleParameters, key: Key) -> CartPolePhysics:
        """All four values uniform in [-0.05, 0.05)."""
        return CartPolePhysics(*key.uniform(4, low=-0.05, high=0.05, dtype=parameters.gravity.dtype).unbind(-1))

    def advance(
        self, parameters: CartPoleParameters, physics: CartPolePhysics, action: Tensor, key: Key
    ) -> tuple[CartPolePhysics, Tensor, Tensor]:
        """One Euler step (Florian 2005, eq. 23 and 24); a reward of 1 for each, the last one included."""
        p, (x, x_dot, theta, theta_dot) = parameters, physics
        force = (2 * action.to(x.dtype) - 1) * p.force
        sin, cos, mass = theta.sin(), theta.cos(), p.cart_mass + p.pole_mass
        moment = p.pole_mass * p.half_length
        push = (force + moment * theta_dot.square() * sin) / mass
        theta_acc = (p.gravity * sin - cos * push) / (p.half_length * (4.0 / 3.0 - p.pole_mass * cos.square() / mass))
        x_acc = push - moment * theta_acc * cos / mass
        new = CartPolePhysics(
            x + self.tau * x_dot,
            x_dot + self.tau * x_acc,
            theta + self.tau * theta_dot,
            theta_dot + self.tau * theta_acc,
        )
        terminated = (new.x.abs() > self.limit) | (new.theta.abs() > self.angle)
        return new, torch.ones_like(new.x), terminated

    def observe(self, parameters: CartPoleParameters, physics: CartPolePhysics) -> Tensor:
        """`[*batch, 4]`."""
        return columns(*physics)
