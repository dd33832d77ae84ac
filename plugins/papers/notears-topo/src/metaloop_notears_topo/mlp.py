"""The nonlinear model: a network for each node."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from metaloop import Key
from pydantic import Field
from torch import Tensor

from metaloop_notears_topo.lbfgs import minimise
from metaloop_notears_topo.model import Fit, NodeModel, Slots, column

SMOOTH = 1e-8
"""`|w|` is taken as `sqrt(w^2 + SMOOTH) - sqrt(SMOOTH)`, which has a gradient at 0."""


class Mlp(NodeModel):
    """`f_j(x) = v_j' sigmoid(A_j' x)`, no biases; `Q = |X - f(X)|^2 / (2 n) + l1 sum |A| + l2 / 2 (|A|^2 + |v|^2)`.

    An edge i -> j weighs as the norm of row i of A_j, which is 0 where i does not come before j. All nodes of all
    candidates are trained side by side by L-BFGS, from where they were.
    """

    least: ClassVar[float] = 1e-4
    chunk: ClassVar[int] = 64

    hidden: int = Field(default=40, ge=1, description="hidden units of each network")
    l1: float = Field(default=0.01, ge=0, description="weight of the first layer's L1 norm")
    l2: float = Field(default=0.01, ge=0, description="weight of half the squared norm of all parameters")
    iterations: int = Field(default=100, ge=1, description="L-BFGS steps of one training at most")
    tolerance: float = Field(default=1e-5, gt=0, description="a node whose loss falls by a smaller share is trained")

    @property
    def dtype(self) -> torch.dtype:
        """The experiment's precision: in single precision training takes a fraction of the time."""
        return torch.get_default_dtype()

    def start(self, nodes: int, keys: Key) -> dict[str, Tensor]:
        """Uniform, as wide as `torch.nn.Linear`'s: the first layer's inputs are parents one by one."""
        first = keys.fold("first").uniform(nodes, nodes, self.hidden, low=-1.0, high=1.0, dtype=self.dtype)
        bound = 1 / math.sqrt(self.hidden)
        second = keys.fold("second").uniform(nodes, self.hidden, low=-bound, high=bound, dtype=self.dtype)
        return {"first": first, "second": second}

    def solve(
        self, x: Tensor, task: Tensor, node: Tensor, parents: Tensor, params: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """L-BFGS on every node's own loss."""
        y = column(x, task, node)
        flat = torch.cat([(params["first"] * parents[:, :, None]).flatten(1), params["second"]], 1)

        def fn(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            return self.loss(x, task[rows], y[rows], parents[rows], points)

        found = minimise(fn, flat, steps=self.iterations, tolerance=self.tolerance)
        loss, _ = fn(found, torch.arange(len(found), device=x.device))
        first, second = self._layers(found, x.shape[2])
        return {"first": first, "second": second}, loss

    def _layers(self, flat: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        inner = nodes * self.hidden
        return flat[:, :inner].reshape(-1, nodes, self.hidden), flat[:, inner:]

    def loss(self, x: Tensor, task: Tensor, y: Tensor, parents: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Each fit's part of Q `[fit]` and its gradient `[fit, parameter]` with respect to what parents allow.

        Args:
            x: data `[task, row, node]`.
            task: whose data `[fit]`, in rising order.
            y: the fitted nodes `[fit, row]`.
            parents: who may be used `[fit, node]`.
            flat: parameters `[fit, parameter]`.
        """
        first, second = self._layers(flat, x.shape[2])
        slots, rows = Slots(task, len(x)), x.shape[1]
        w, v = slots.pack(first), slots.pack(second)  # [task, slot, node, hidden], [task, slot, hidden]
        h = torch.sigmoid(x @ w.movedim(1, 2).flatten(2)).reshape(
            len(x), rows, *v.shape[1:]
        )  # [task, row, slot, hidden]
        back = (h * v[:, None]).sum(3) - slots.pack(y).mT  # [task, row, slot]
        square = slots.unpack(back.square().mean(1))
        back = back / rows
        by_second = slots.unpack((h * back[..., None]).sum(1))
        inner = h.mul(1 - h).mul_(v[:, None]).mul_(back[..., None]).flatten(2)
        by_first = slots.unpack((x.mT @ inner).reshape(*x.shape[::2], *v.shape[1:]).movedim(2, 1))
        size = (first.square() + SMOOTH).sqrt()
        penalty = self.l1 * (size - math.sqrt(SMOOTH)).sum((1, 2)) + 0.5 * self.l2 * flat.square().sum(1)
        by_first = by_first + self.l1 * first / size + self.l2 * first
        slope = torch.cat([(by_first * parents[:, :, None]).flatten(1), by_second + self.l2 * second], 1)
        return square / 2 + penalty, slope

    def weights(self, fit: Fit, order: Tensor) -> Tensor:
        """Norms of the first layer's rows."""
        return fit.params["first"].square().sum(3).sqrt().mT

    def slope(self, x: Tensor, fit: Fit, order: Tensor) -> Tensor:
        """By how much the loss's slope is above the penalty's, as a norm over hidden units."""
        n, d = order.shape
        task = torch.arange(n, device=x.device).repeat_interleave(d)
        params = {name: leaf.flatten(0, 1) for name, leaf in fit.params.items()}
        flat = torch.cat([params["first"].flatten(1), params["second"]], 1)
        everyone = torch.ones(n * d, d, dtype=self.dtype, device=x.device)
        _, slope = self.loss(x.to(self.dtype), task, x.to(self.dtype).mT.flatten(0, 1), everyone, flat)
        first = self._layers(slope, d)[0]
        missing = params["first"] == 0
        size = torch.where(missing, (first.abs() - self.l1).clamp(min=0), first.abs()).square().sum(2).sqrt()
        return size.reshape(n, d, d).mT
