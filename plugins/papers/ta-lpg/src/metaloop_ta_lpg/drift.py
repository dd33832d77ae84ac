"""What a policy pays for moving away from the one that acted: PPO's clipping, and drifts that are learned instead."""

from __future__ import annotations

from typing import Literal, Self

import torch
from metaloop import Component, Key
from metaloop_rl.models import Theta
from pydantic import Field
from torch import Tensor

MARGIN = 1e-4
"""What a learned drift has to exceed: around the ratio 1 it is then exactly zero, and so is its slope."""


class DriftObjective(Component):
    """The drift of Learned Policy Optimisation: a small network without biases, which vanishes where nothing changed.

    With l = log(pi / pi_old), r = e^l and a standardised advantage A the network reads

        x = [l, l^2, 1 - r, (1 - r)^2, A l, A l^2, A (1 - r), A (1 - r)^2]

    and, with `time_inputs`, (n/N) x as well (Jackson et al. 2024, eq. 10). It is f = w tanh(W x), and the drift is
    relu(f - 1e-4), or with `ppo` relu(relu((r - clip(r, 0.8, 1.2)) A) + f - 1e-4): a policy descends -(r A - drift), so
    with f = 0 that is PPO.
    """

    width: int = Field(default=128, ge=1, description="hidden units")
    ppo: bool = Field(default=True, description="begin from PPO's clipping")
    clip: float = Field(default=0.2, gt=0, lt=1, description="PPO's, of the ratio")
    time_inputs: Literal["off", "relative"] = Field(default="off", description="what is known of the life: n/N")

    @classmethod
    def example(cls) -> Self:
        """A small one that knows the time."""
        return cls(width=4, time_inputs="relative")

    def init(self, key: Key) -> Theta:
        """First weights: from N(0, 1 / fan-in), the outer ones zero where it begins from PPO."""
        n, dtype = 8 if self.time_inputs == "off" else 16, torch.get_default_dtype()
        inner = n**-0.5 * key.fold("in").normal(self.width, n, dtype=dtype)
        outer = self.width**-0.5 * key.fold("out").normal(1, self.width, dtype=dtype)
        return {"in.weight": inner, "out.weight": torch.zeros_like(outer) if self.ppo else outer}

    def __call__(self, theta: Theta, log_ratio: Tensor, advantage: Tensor, fraction: Tensor) -> Tensor:
        """The drift `[rows]` at log-ratios and advantages `[rows]`, at n/N (a scalar)."""
        away = 1 - log_ratio.exp()
        powers = torch.stack([log_ratio, log_ratio.square(), away, away.square()], dim=-1)
        x = torch.cat([powers, advantage[..., None] * powers], dim=-1)  # [rows, 8]
        if self.time_inputs == "relative":
            x = torch.cat([x, fraction * x], dim=-1)
        f = ((x @ theta["in.weight"].mT).tanh() @ theta["out.weight"].mT)[..., 0]
        return (self.clipping(log_ratio, advantage) + f - MARGIN).relu()

    def clipping(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """PPO's drift `[rows]`: r A less the smaller one of r A and its clipped form."""
        if not self.ppo:
            return torch.zeros_like(log_ratio)
        ratio = log_ratio.exp()
        return ((ratio - ratio.clamp(1 - self.clip, 1 + self.clip)) * advantage).relu()
