"""Agents that a learned rule changes: tables over states or small networks, one of each for every task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from metaloop import Component, Key
from metaloop.specs import ControlSpec
from metaloop_basics.models import Mlp
from pydantic import Field
from torch import Tensor
from torch.func import vmap

from metaloop_rl.adam import Adam, clipped
from metaloop_rl.models import Theta, drawn


class View(NamedTuple):
    """What an agent acts on."""

    observation: Tensor
    """`[task, rows, *observation]`, or states' numbers `[task, rows]` int64."""
    time: Tensor
    """`[task, rows]` int64: steps since the episode began."""


class Weights(NamedTuple):
    """One function of what is seen, for each task, and what its optimizer remembers."""

    values: Theta
    """Leaves `[task, ...]`. A table's `table` is `[task, state, outputs]`; its `time`, if any, `[task, 1, outputs]`."""
    memory: tuple[Adam, ...]
    """Adam's, for networks."""


Pull = Callable[[Tensor], Theta]
"""The gradient of weights, given that of outputs `[task, rows, outputs]`."""


class Heads(Component):
    """How an agent's functions look and descend: tables by SGD, networks by Adam, their gradients clipped by norm.

    All of it can be differentiated, twice if need be: meta-gradients pass through the clipping.
    """

    model: Mlp = Field(default=Mlp(widths=(32,)), description="the networks, where there is no table")
    adam: float = Field(default=1e-3, gt=0, description="Adam's rate for networks")
    clip: float = Field(default=0.5, gt=0, description="largest norm of a gradient")
    time_scale: float = Field(
        default=0.0, ge=0, description="steps in the episode times this are an observation too (Oh et al.: 0.001)"
    )

    def init(self, spec: ControlSpec, outputs: int, n: int, keys: Key) -> Weights:
        """First weights for `n` tasks with `keys` `[task]`: tables of zeros, or networks that differ."""
        dtype, device = torch.get_default_dtype(), keys.device
        if (states := getattr(spec, "states", None)) is not None:
            values = {"table": torch.zeros(n, states, outputs, dtype=dtype, device=device)}
            if self.time_scale:
                values["time"] = torch.zeros(n, 1, outputs, dtype=dtype, device=device)
            return Weights(values, ())
        width = torch.Size(spec.observation).numel() + (self.time_scale > 0)
        values = drawn(self.model, width, outputs, keys)
        return Weights(values, (vmap(Adam.of)(values),))

    def outputs(self, weights: Theta, seen: View) -> Tensor:
        """`[task, rows, outputs]`."""
        return self.vjp(weights, seen)[0]

    def vjp(self, weights: Theta, seen: View) -> tuple[Tensor, Pull]:
        """Outputs `[task, rows, outputs]`, and how gradients are pulled back to the weights."""
        if "table" not in weights:
            return self.model.vjp(weights, self._flat(seen))
        table = weights["table"]
        rows = seen.observation[..., None].expand(-1, -1, table.shape[-1])
        outputs = table.gather(1, rows)
        when = self.time_scale * seen.time[..., None].to(table.dtype)
        if "time" in weights:
            outputs = outputs + when * weights["time"]

        def pull(slope: Tensor) -> Theta:
            found = {"table": torch.zeros_like(table).scatter_add(1, rows, slope)}
            if "time" in weights:
                found["time"] = (when * slope).sum(1, keepdim=True)
            return found

        return outputs, pull

    def _flat(self, seen: View) -> Tensor:
        flat = seen.observation.flatten(2)
        if not self.time_scale:
            return flat
        return torch.cat([flat, self.time_scale * seen.time[..., None].to(flat.dtype)], dim=-1)

    def descend(self, weights: Weights, slope: Theta, lr: float) -> Weights:
        """One step down a gradient that is clipped task by task; `lr` is a table's."""
        slope = vmap(lambda one: clipped(one, self.clip))(slope)
        if not weights.memory:
            return Weights({name: value - lr * slope[name] for name, value in weights.values.items()}, ())
        step = vmap(lambda memory, values, down: memory.descend(values, down, self.adam))
        values, memory = step(weights.memory[0], weights.values, slope)
        return Weights(values, (memory,))
