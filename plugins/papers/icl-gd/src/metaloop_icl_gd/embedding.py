"""What happens to tokens before the first attention layer."""

from __future__ import annotations

import math

import torch
from metaloop import Component, Key
from pydantic import Field
from torch import Tensor

from metaloop_icl_gd.attention import Theta


class Embedding(Component):
    """A linear map of each token and a residual MLP with one hidden layer of GELUs (paper, section on regression
    with nonlinear functions).
    """

    width: int = Field(default=40, ge=2, description="width of an embedded token")
    hidden: int = Field(default=160, ge=0, description="units of the MLP; 0: the linear map alone")

    def init(self, token: int, scale: float, key: Key) -> dict[str, Tensor]:
        """First weights for tokens of width `token`, by `variance_scaling`; biases are 0."""
        shapes = {"linear": (token, self.width)}
        if self.hidden:
            shapes |= {"hidden": (self.width, self.hidden), "out": (self.hidden, self.width)}
        theta = {
            f"embedding.{name}": variance_scaling(key.fold(name), shape, scale, fan_in=shape[0])
            for name, shape in shapes.items()
        }
        if self.hidden:
            theta["embedding.hidden_bias"] = torch.zeros(self.hidden, device=key.device)
            theta["embedding.out_bias"] = torch.zeros(self.width, device=key.device)
        return theta

    def __call__(self, theta: Theta, tokens: Tensor) -> Tensor:
        """Embedded tokens `[task, n, width]`."""
        embedded = tokens @ theta["embedding.linear"]
        if not self.hidden:
            return embedded
        hidden = embedded @ theta["embedding.hidden"] + theta["embedding.hidden_bias"]
        hidden = torch.nn.functional.gelu(hidden, approximate="tanh")  # as in the authors' JAX code
        return embedded + hidden @ theta["embedding.out"] + theta["embedding.out_bias"]


def variance_scaling(key: Key, shape: tuple[int, ...], scale: float, fan_in: int) -> Tensor:
    """Normal draws cut at two standard deviations, with variance `scale / fan_in` (Haiku's `VarianceScaling`)."""
    inside = math.erf(math.sqrt(2.0))  # mass within two standard deviations
    draws = math.sqrt(2.0) * torch.erfinv(inside * (2.0 * key.uniform(*shape) - 1.0))
    return draws * (math.sqrt(scale / fan_in) / 0.87962566103423978)  # the cut normal's standard deviation


def sinusoids(positions: int, size: int) -> Tensor:
    """Sines and cosines of each position, `[position, size]` (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(positions)[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / max(size, 1)))
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(1)[:, :size]
