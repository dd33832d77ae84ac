"""Weighted graphs in batches: orders, the gradient of the acyclicity constraint, and how far two graphs are apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def topological(weights: Tensor) -> Tensor:
    """An order of the nodes `[task, node]` in which every edge of `weights` `[task, node, node]` points forward.

    Raises:
        ValueError: a graph has a cycle.
    """
    edges = (weights != 0).to(torch.int64)
    level = torch.zeros(weights.shape[:2], dtype=torch.int64, device=weights.device)
    for _ in range(weights.shape[1] + 1):
        before, level = level, (edges * (level[:, :, None] + 1)).amax(1)
        if torch.equal(before, level):
            return level.argsort(dim=1, stable=True)
    raise ValueError("a graph has a cycle: it has no topological order")


def acyclic(weights: Tensor) -> Tensor:
    """The graphs `[task, node, node]` without their weakest edges, as far as these close cycles."""
    weights = weights.clone()
    while bool((cyclic := _has_cycle(weights)).any()):
        size = weights.abs().flatten(1)
        weakest = torch.where(size > 0, size, torch.inf).amin(1)
        drop = cyclic[:, None, None] & (weights.abs() <= weakest[:, None, None])
        weights = weights.masked_fill(drop, 0.0)
    return weights


def _has_cycle(weights: Tensor) -> Tensor:
    reach = (weights != 0).double()
    walks = reach.clone()
    for _ in range(weights.shape[1] - 1):
        walks = ((walks @ reach) > 0).double()
    return walks.flatten(1).any(1)  # a walk of as many steps as there are nodes visits one of them twice


def inverse(order: Tensor) -> Tensor:
    """The place of each node `[task, node]` in an order `[task, place]`."""
    return order.argsort(dim=-1)


def arranged(matrix: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of `[task, node, node]` in the order's sequence: `[task, place, place]`."""
    rows = matrix.gather(1, order[:, :, None].expand_as(matrix))
    return rows.gather(2, order[:, None, :].expand_as(matrix))


def walks(weights: Tensor) -> Tensor:
    """The gradient of `h(W) = -log det(I - |W|)`, transposed: weighted walks from a to b `[task, place, place]`.

    `grad h = (I - |W|)^-T`, so its entry (i, j) is the walks from j to i.

    Args:
        weights: edges in topological order `[task, place, place]`, strictly upper triangular.
    """
    one = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    found: Tensor = torch.linalg.solve_triangular(
        one - weights.abs(), one.expand_as(weights), upper=True, unitriangular=True
    )
    return found


class Distance(NamedTuple):
    """How far found graphs are from the true ones, `[task]` each."""

    shd: Tensor
    """Structural Hamming distance: edges to add, to remove and to turn."""
    tpr: Tensor
    """Share of true edges that were found with their direction."""
    fdr: Tensor
    """Share of found edges that are not there or point the other way."""


def distance(found: Tensor, true: Tensor) -> Distance:
    """The distance of graphs `[task, node, node]`, any number but 0 an edge; NaN where a true graph is not known."""
    known = ~true.isnan().flatten(1).any(1)
    ours, theirs = found != 0, (true != 0) & known[:, None, None]
    skeletons = [(graph | graph.mT).triu(1) for graph in (ours, theirs)]
    turned = (ours & ~theirs & theirs.mT).sum((1, 2))
    right = (ours & theirs).sum((1, 2))
    shd = (skeletons[0] ^ skeletons[1]).sum((1, 2)) + turned
    tpr = right / theirs.sum((1, 2)).clamp(min=1)
    fdr = (ours.sum((1, 2)) - right) / ours.sum((1, 2)).clamp(min=1)
    return Distance(*(torch.where(known, value.double(), torch.nan) for value in (shd, tpr, fdr)))


def varsortability(x: Tensor, true: Tensor) -> Tensor:
    """Share of directed paths along which the variance grows, `[task]` (Reisach et al. 2021); NaN without a true graph.

    Near 1, sorting nodes by variance finds the order; 0.5 where variances say nothing.

    Args:
        x: data `[task, row, node]`.
        true: weights `[task, node, node]`.
    """
    variance = x.double().var(1)
    grows = (variance[:, None, :] > variance[:, :, None]) + 0.5 * (variance[:, None, :] == variance[:, :, None])
    edges = (true.nan_to_num() != 0).double()
    paths, right, joined = x.new_zeros(len(x)).double(), x.new_zeros(len(x)).double(), edges
    for _ in range(x.shape[-1] - 1):
        paths, right = paths + joined.sum((1, 2)), right + (joined * grows).sum((1, 2))
        joined = ((joined @ edges) > 0).double()
    return right / paths  # NaN where there is no edge
