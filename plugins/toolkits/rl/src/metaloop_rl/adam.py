"""Adam as a pure function: torch's own works in place and not under `vmap`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from metaloop import tree
from torch import Tensor

Theta = dict[str, Tensor]
_TINY = 1e-30
"""Below any eps, squared: keeps a root's slope finite at zero, for those who differentiate through a step."""


class Adam(NamedTuple):
    """What Adam remembers (Kingma & Ba 2015)."""

    mean: Theta
    """Of gradients."""
    square: Theta
    """Of squared gradients."""
    step: Tensor
    """Scalar: steps taken."""

    @classmethod
    def of(cls, theta: Theta) -> Adam:
        """Before the first step on parameters like `theta`."""
        zeros = {name: torch.zeros_like(value) for name, value in theta.items()}
        return cls(zeros, tree.clone(zeros), torch.zeros_like(next(iter(theta.values())).sum()))

    def descend(
        self,
        theta: Theta,
        gradient: Theta,
        lr: Tensor | float,
        eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> tuple[Theta, Adam]:
        """One step: new parameters, and what is remembered after it."""
        step = self.step + 1
        mean = {name: value.lerp(gradient[name], 1 - betas[0]) for name, value in self.mean.items()}
        square = {name: value.lerp(gradient[name].square(), 1 - betas[1]) for name, value in self.square.items()}
        first, second = 1 - betas[0] ** step, (1 - betas[1] ** step).sqrt()
        size = lr / first
        rms = {name: value.clamp(min=_TINY).sqrt() / second for name, value in square.items()}
        new = {name: value - size * mean[name] / (rms[name] + eps) for name, value in theta.items()}
        return new, Adam(mean, square, step)


def clipped(gradient: Theta, largest: float) -> Theta:
    """A gradient whose global norm is at most `largest`."""
    norm = torch.stack([value.square().sum() for value in gradient.values()]).sum().clamp(min=_TINY).sqrt()
    share = (largest / (norm + 1e-6)).clamp(max=1.0)
    return {name: value * share for name, value in gradient.items()}
