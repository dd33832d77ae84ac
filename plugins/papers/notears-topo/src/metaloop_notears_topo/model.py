"""What is fitted when an order of the nodes is given: the inner problem."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key, UserError, tree
from metaloop.component import Component
from pydantic import Field
from torch import Tensor

from metaloop_notears_topo.graphs import arranged, inverse
from metaloop_notears_topo.sem import GraphSpec
from metaloop_notears_topo.swaps import How, Swaps, source


class Model(Component):
    """`W*(pi) = argmin Q(W) subject to W_ij = 0 unless i is before j in pi`, and what swaps in pi would gain.

    Q is a sum over nodes, each with the set of its predecessors, so a swap touches only the nodes between the two. A
    fit is a tree of tensors with a leading task axis; scores are float64.
    """

    least: ClassVar[float] = 1e-10
    """A swap must lower Q by more than this share of it: equal scores would let the search go in circles."""

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in, whatever the experiment's precision."""
        return torch.float64

    def check(self, spec: GraphSpec) -> None:
        """Accept a kind of data, or raise `Incompatible` with the reason."""

    def begin(self, x: Tensor, order: Tensor, keys: Key) -> Any:
        """The fit to data `[task, row, node]` in an order `[task, place]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin")

    def score(self, fit: Any, order: Tensor) -> Tensor:
        """Q at the fit, `[task]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement score")

    def weights(self, fit: Any, order: Tensor) -> Tensor:
        """W, or what stands for it, `[task, node, node]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement weights")

    def slope(self, x: Tensor, fit: Any, order: Tensor) -> Tensor:
        """`|[grad Q]_ij|` of edges i -> j, `[task, node i, node j]`; for a penalty the smallest subgradient."""
        raise NotImplementedError(f"{type(self).__name__} must implement slope")

    def trial(self, x: Tensor, fit: Any, order: Tensor, swaps: Swaps, how: How) -> tuple[Tensor, Any]:
        """How much lower Q would be after each swap alone, `[task, candidate]`, and what `accept` needs."""
        raise NotImplementedError(f"{type(self).__name__} must implement trial")

    def accept(self, fit: Any, trial: Any, chosen: Tensor) -> Any:
        """The fit after the swaps in `chosen` `[task, candidate]`, whose intervals are disjoint."""
        raise NotImplementedError(f"{type(self).__name__} must implement accept")


class LeastSquares(Model):
    """`Q(W) = |X - X W|^2 / (2 n)`, X centred: ordinary least squares of each node on its predecessors.

    With `S = X' X / n` in the order's sequence and its Cholesky factor L, `Q = sum_k L_kk^2 / 2`, and
    `L = (I - W)^-T D`. A swap changes the block of L between the two places, and nothing else.
    """

    jitter: float = Field(default=1e-12, ge=0, description="added to variances, as a share of them")

    def begin(self, x: Tensor, order: Tensor, keys: Key) -> Tensor:
        """The covariance S `[task, node, node]`: all that is needed of the data."""
        x = x.double()
        x = x - x.mean(1, keepdim=True)
        covariance = x.mT @ x / x.shape[1]
        return covariance + torch.diag_embed(self.jitter * covariance.diagonal(dim1=1, dim2=2))

    def score(self, fit: Tensor, order: Tensor) -> Tensor:
        """Half the sum of conditional variances."""
        return _spread(_factor(arranged(fit, order))).sum(1) / 2

    def weights(self, fit: Tensor, order: Tensor) -> Tensor:
        """Regression coefficients."""
        return arranged(_coefficients(_factor(arranged(fit, order))), inverse(order))

    def slope(self, x: Tensor, fit: Tensor, order: Tensor) -> Tensor:
        """`|S (I - W)|`: covariances with residuals."""
        one = torch.eye(fit.shape[1], dtype=fit.dtype, device=fit.device)
        return (fit @ (one - self.weights(fit, order))).abs()

    def trial(self, x: Tensor, fit: Tensor, order: Tensor, swaps: Swaps, how: How) -> tuple[Tensor, Any]:
        """One small Cholesky factor for each candidate: that of the block between its places, conditioned on before."""
        factor = _factor(arranged(fit, order))
        gain = torch.full(swaps.valid.shape, -torch.inf, dtype=fit.dtype, device=fit.device)
        task, which = swaps.valid.nonzero(as_tuple=True)
        first, last = swaps.first[task, which], swaps.last[task, which]
        length, width = last - first + 1, 2
        while bool((length > width // 2).any()) if width > 2 else len(length) > 0:
            some = (length <= width) & ((length > width // 2) | (width == 2))  # blocks of like size together
            found = _block_gain(factor, task[some], first[some], last[some], min(width, order.shape[1]), how)
            gain[task[some], which[some]] = found
            width *= 2
        return gain, ()

    def accept(self, fit: Tensor, trial: Any, chosen: Tensor) -> Tensor:
        """As it is: the covariance has no order."""
        return fit


def _factor(matrix: Tensor) -> Tensor:
    """The Cholesky factor.

    Raises:
        UserError: it does not exist.
    """
    try:
        factor: Tensor = torch.linalg.cholesky(matrix)
    except RuntimeError as error:  # LinAlgError is one
        raise UserError(
            "the covariance is singular: a column is constant or a sum of others; drop it, or raise model.jitter"
        ) from error
    return factor


def _spread(factor: Tensor) -> Tensor:
    """Conditional variances `[..., place]`."""
    return factor.diagonal(dim1=-2, dim2=-1).square()


def _coefficients(factor: Tensor) -> Tensor:
    """W in the order's sequence: `(I - W)^-1 = (L D^-1)'`."""
    one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    unit = (factor / factor.diagonal(dim1=-2, dim2=-1)[:, None, :]).mT
    inverted: Tensor = torch.linalg.solve_triangular(unit, one.expand_as(unit), upper=True, unitriangular=True)
    return (one - inverted).triu(1)


def _block_gain(factor: Tensor, task: Tensor, first: Tensor, last: Tensor, width: int, how: How) -> Tensor:
    """What swaps in blocks of at most `width` places would gain, `[candidate]`."""
    offset = torch.arange(width, device=factor.device)
    place = first[:, None] + offset  # [candidate, width]
    inside = place <= last[:, None]
    place = torch.where(inside, place, last[:, None])
    rows = source(place, first[:, None], last[:, None], how)
    block = factor[task[:, None, None], rows[:, :, None], place[:, None, :]]
    block = block * (inside[:, :, None] & inside[:, None, :])
    padding = torch.diag_embed((~inside).to(factor.dtype))
    after = _spread(_factor(block @ block.mT + padding))
    before = factor[task[:, None], place, place].square()
    return torch.where(inside, before - after, 0.0).sum(1) / 2


class Slots:
    """Fits `[fit, ...]` as `[task, slot, ...]`, so that each task's data are read once for all of its fits."""

    def __init__(self, task: Tensor, tasks: int) -> None:
        """For the tasks `[fit]` of fits, in rising order, out of so many."""
        count = torch.bincount(task, minlength=tasks)
        self.tasks, self.width = tasks, int(count.max())
        self.at = task, torch.arange(len(task), device=task.device) - (count.cumsum(0) - count)[task]

    def pack(self, values: Tensor) -> Tensor:
        """`[fit, ...]` to `[task, slot, ...]`; empty slots hold 0."""
        if self.tasks == 1:
            return values[None]
        return values.new_zeros(self.tasks, self.width, *values.shape[1:]).index_put(self.at, values)

    def unpack(self, values: Tensor) -> Tensor:
        """`[task, slot, ...]` to `[fit, ...]`."""
        return values[0] if self.tasks == 1 else values[self.at]


def column(x: Tensor, task: Tensor, node: Tensor) -> Tensor:
    """The data `[fit, row]` of nodes `[fit]`."""
    return x.mT[task, node]


class Fit(NamedTuple):
    """Nodes' own fits."""

    params: dict[str, Tensor]
    """`[task, node, ...]` each."""
    loss: Tensor
    """Each node's part of Q, `[task, node]`."""


class Trial(NamedTuple):
    """Nodes that were fitted anew, `[fit]` each."""

    task: Tensor
    which: Tensor
    """The candidate."""
    node: Tensor
    params: dict[str, Tensor]
    loss: Tensor


class NodeModel(Model):
    """Models without a closed form: every node is fitted to a mask of parents, many at a time, from where it was."""

    chunk: ClassVar[int] = 4096
    """Nodes that are fitted at a time."""

    def start(self, nodes: int, keys: Key) -> dict[str, Tensor]:
        """First parameters, `[task, node, ...]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement start")

    def solve(
        self, x: Tensor, task: Tensor, node: Tensor, parents: Tensor, params: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Fit nodes to parents: parameters and losses `[fit]`.

        Args:
            x: data `[task, row, node]`.
            task: whose data `[fit]`, in rising order.
            node: which node `[fit]`.
            parents: who may be used `[fit, node]`, 0 or 1.
            params: where to begin, `[fit, ...]` each.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement solve")

    def begin(self, x: Tensor, order: Tensor, keys: Key) -> Fit:
        """Every node on its predecessors."""
        n, d = order.shape
        task, node = (part.flatten() for part in torch.meshgrid(*(torch.arange(k) for k in (n, d)), indexing="ij"))
        task, node = task.to(order.device), node.to(order.device)
        place = inverse(order)
        parents = place[task] < place[task, node][:, None]
        begun = {name: leaf.flatten(0, 1) for name, leaf in self.start(d, keys).items()}
        params, loss = self._solved(x, task, node, parents, begun)
        return Fit({name: leaf.reshape(n, d, *leaf.shape[1:]) for name, leaf in params.items()}, loss.reshape(n, d))

    def score(self, fit: Fit, order: Tensor) -> Tensor:
        """The sum over nodes."""
        return fit.loss.double().sum(1)

    def trial(self, x: Tensor, fit: Fit, order: Tensor, swaps: Swaps, how: How) -> tuple[Tensor, Trial]:
        """All nodes between all candidates' places in one batch."""
        task, which = swaps.valid.nonzero(as_tuple=True)
        first, last = swaps.first[task, which], swaps.last[task, which]
        comes_from = source(torch.arange(order.shape[1], device=order.device), first[:, None], last[:, None], how)
        swapped = order[task].gather(1, comes_from)  # [candidate, place]
        length = last - first + 1
        own = torch.arange(len(task), device=order.device).repeat_interleave(length)
        offset = torch.arange(len(own), device=order.device) - (length.cumsum(0) - length)[own]
        place = first[own] + offset
        node = swapped[own, place]
        parents = inverse(swapped)[own] < place[:, None]
        warm = {name: leaf[task[own], node] for name, leaf in fit.params.items()}
        params, loss = self._solved(x, task[own], node, parents, warm)
        gain = torch.full(swaps.valid.shape, -torch.inf, dtype=torch.float64, device=loss.device)
        saved = (fit.loss[task[own], node] - loss).double()
        gain[task, which] = torch.zeros_like(gain[task, which]).index_add_(0, own, saved)
        return gain, Trial(task[own], which[own], node, params, loss)

    def accept(self, fit: Fit, trial: Trial, chosen: Tensor) -> Fit:
        """With the nodes that chosen swaps touched as they were fitted for the trial."""
        kept = tree.index(trial, chosen[trial.task, trial.which])
        at = (kept.task, kept.node)
        params = {name: leaf.index_put(at, kept.params[name]) for name, leaf in fit.params.items()}
        return Fit(params, fit.loss.index_put(at, kept.loss))

    def _solved(
        self, x: Tensor, task: Tensor, node: Tensor, parents: Tensor, params: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """`solve`, a chunk at a time."""
        x, mask = x.to(self.dtype), parents.to(self.dtype)
        parts = [
            self.solve(x, task[rows], node[rows], mask[rows], {name: leaf[rows] for name, leaf in params.items()})
            for rows in (slice(begin, begin + self.chunk) for begin in range(0, len(task), self.chunk))
        ]
        solved: tuple[dict[str, Tensor], Tensor] = tree.concatenate(parts)
        return solved
