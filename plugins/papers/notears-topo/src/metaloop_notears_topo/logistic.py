"""The logistic model: binary nodes, an L1 penalty."""

from __future__ import annotations

import torch
from metaloop import Incompatible, Key
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus, softshrink

from metaloop_notears_topo.model import Fit, NodeModel, Slots, column
from metaloop_notears_topo.sem import GraphSpec

SWEEPS = 4
"""Through the coordinates, of one proximal step."""


class Logistic(NodeModel):
    """`Q(W) = sum_j mean_i [log(1 + e^m_ij) - x_ij m_ij] + l1 |W|_1` with `m = X W`, x in {0, 1}.

    Every node by proximal steps with momentum and restarts from where it was. The authors' code fits with
    liblinear at C = 0.1, which is l1 = 1 / (n C), and then adds |W|_1 / C to the score; here the score is what is
    fitted.
    """

    l1: float = Field(default=0.01, ge=0, description="weight of the L1 penalty; 0.01 is C = 0.1 at n = 1000")
    iterations: int = Field(default=100, ge=1, description="proximal steps at most")
    tolerance: float = Field(default=1e-6, gt=0, description="weights that change by less have converged")

    def check(self, spec: GraphSpec) -> None:
        """Accept binary columns.

        Raises:
            Incompatible: others.
        """
        if spec.values != "binary":
            raise Incompatible("the logistic model is for columns of 0 and 1, and these hold other numbers")

    def start(self, nodes: int, keys: Key) -> dict[str, Tensor]:
        """Zero."""
        return {"weights": torch.zeros(len(keys), nodes, nodes, dtype=torch.float64, device=keys.device)}

    def solve(
        self, x: Tensor, task: Tensor, node: Tensor, parents: Tensor, params: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Accelerated proximal steps in the metric of `X' X / (4 n)`, which bounds the likelihood's Hessian."""
        y = column(x, task, node)
        bound = (x.mT @ x / (4 * x.shape[1]))[task]  # [fit, node, node]
        w = params["weights"] * parents
        ahead, momentum = w, torch.ones_like(w[:, :1])
        alive = torch.arange(len(w), device=x.device)
        for _ in range(self.iterations):
            was, at = w[alive], ahead[alive]
            slope = _slope(x, task[alive], y[alive], at)
            new = _descend(bound[alive], slope, at, parents[alive], self.l1)
            uphill = ((at - new) * (new - was)).sum(1, keepdim=True) > 0
            old = torch.where(uphill, 1.0, momentum[alive])  # forget the momentum where it leads up
            grown = (1 + (1 + 4 * old.square()).sqrt()) / 2
            ahead = ahead.index_copy(0, alive, new + torch.where(uphill, 0.0, (old - 1) / grown) * (new - was))
            momentum, w = momentum.index_copy(0, alive, grown), w.index_copy(0, alive, new)
            moved = torch.maximum((new - was).abs(), (new - at).abs()).amax(1)
            alive = alive[moved > self.tolerance]
            if len(alive) == 0:
                break
        m = _index(x, task, w)
        loss = (softplus(m) - y * m).mean(1) + self.l1 * w.abs().sum(1)
        return {"weights": w}, loss

    def weights(self, fit: Fit, order: Tensor) -> Tensor:
        """The coefficients: a column for each node."""
        return fit.params["weights"].mT

    def slope(self, x: Tensor, fit: Fit, order: Tensor) -> Tensor:
        """By how much the slope of the likelihood is above the penalty's, where an edge is missing."""
        x, w = x.double(), self.weights(fit, order)
        slope = x.mT @ (torch.sigmoid(x @ w) - x) / x.shape[1]
        return torch.where(w == 0, softshrink(slope, self.l1).abs(), (slope + self.l1 * w.sign()).abs())


def _index(x: Tensor, task: Tensor, w: Tensor) -> Tensor:
    """`X w` `[fit, row]`."""
    slots = Slots(task, len(x))
    return slots.unpack(slots.pack(w) @ x.mT)


def _slope(x: Tensor, task: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """`[fit, node]`: the gradient of the mean negative log likelihood."""
    slots = Slots(task, len(x))
    rest = torch.sigmoid(_index(x, task, w)) - y
    return slots.unpack(slots.pack(rest) @ x) / x.shape[1]


def _descend(bound: Tensor, slope: Tensor, at: Tensor, parents: Tensor, l1: float) -> Tensor:
    """The w that minimises `slope' (w - at) + (w - at)' bound (w - at) / 2 + l1 |w|_1` on parents, by coordinates."""
    w, rest, size = at.clone(), slope.clone(), bound.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
    for _ in range(SWEEPS):
        for node in range(w.shape[1]):
            free = softshrink(w[:, node] * size[:, node] - rest[:, node], l1) / size[:, node] * parents[:, node]
            rest += bound[:, node] * (free - w[:, node])[:, None]
            w[:, node] = free
    return w
