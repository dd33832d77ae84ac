"""Networks of actors and critics, and flat dictionaries with the parameters of several."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Self

import torch
from metaloop import Key
from metaloop_basics.models import Mlp
from pydantic import Field
from torch import Tensor, nn

Theta = dict[str, Tensor]


class OrthogonalMlp(Mlp):
    """An MLP with orthogonal first weights and no first biases, as policy-gradient methods begin."""

    gain: float = Field(default=math.sqrt(2), gt=0, description="scale of the hidden layers' first weights")
    head_gain: float = Field(default=1.0, gt=0, description="scale of the head's; 0.01: a policy near uniform")

    @classmethod
    def example(cls) -> Self:
        """One small smooth layer."""
        return cls(widths=(8,), activation="tanh")

    def init(self, inputs: tuple[int, ...], outputs: int | None, key: Key) -> Theta:
        """Orthogonal weights, biases of zero."""
        theta = super().init(inputs, outputs, key)
        generator = key.fold("orthogonal").generator("cpu")
        for name, value in theta.items():
            if name.endswith(".bias"):
                theta[name] = value.zero_()
            else:
                gain = self.head_gain if name.startswith("head.") else self.gain
                theta[name] = value.copy_(nn.init.orthogonal_(value.cpu(), gain, generator=generator))
        return theta


def drawn(model: Mlp, width: int, outputs: int, keys: Key, head_scale: float = 1.0) -> Theta:
    """First parameters for each key, leaves `[*keys, ...]`, also under `vmap`, where a model's own `init` can't run.

    Weights are from N(0, 1 / fan-in), the head's `head_scale` times that wide; biases are 0.
    """
    names = [*(f"hidden{i}" for i in range(1, len(model.widths) + 1)), "head"]
    dtype, theta = torch.get_default_dtype(), {}
    for name, (before, after) in zip(names, pairwise((width, *model.widths, outputs)), strict=True):
        scale = before**-0.5 * (head_scale if name == "head" else 1.0)
        theta[f"{name}.weight"] = scale * keys.fold(name).normal(after, before, dtype=dtype)
        theta[f"{name}.bias"] = torch.zeros(*keys.shape, after, dtype=dtype, device=keys.device)
    return theta


def joined(**parts: Theta) -> Theta:
    """The parameters of several networks as one flat dictionary: `policy.head.weight` and so on."""
    return {f"{part}.{name}": value for part, theta in parts.items() for name, value in theta.items()}


def part(theta: Theta, name: str) -> Theta:
    """One network's own parameters, by its own names."""
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in theta.items() if key.startswith(prefix)}
