"""Self-attention layers as functions of their weights (paper, equations 1 and 3).

A layer moves each token `e_j` by attending to the context tokens `e_i` alone:

    e_j <- e_j + damping * sum_heads P sum_i V e_i (K e_i . Q e_j)

with `(K e_i . Q e_j)` replaced by its softmax over i, divided by sqrt(key size), where a layer has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Theta = Mapping[str, Tensor]


class Weights(NamedTuple):
    """One layer's attention weights."""

    query: Tensor
    """Q `[head, key, width]`."""
    key: Tensor
    """K `[head, key, width]`."""
    value: Tensor
    """V `[head, key, width]`."""
    projection: Tensor
    """P `[head, width, key]`."""


def stacked(theta: Theta) -> Weights:
    """All layers' attention weights, each with a leading layer axis."""
    return Weights(*(theta[name] for name in Weights._fields))


def attend(weights: Weights, tokens: Tensor, context: Tensor, softmax: bool) -> Tensor:
    """What the tokens `[task, n, width]` gain from the context `[task, shot, width]`."""
    queries = torch.einsum("tnw,hkw->thnk", tokens, weights.query)
    keys = torch.einsum("tmw,hkw->thmk", context, weights.key)
    values = torch.einsum("tmw,hkw->thmk", context, weights.value)
    scores = queries @ keys.mT  # [task, head, n, shot]
    if softmax:
        scores = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)
    return torch.einsum("thnk,hwk->tnw", scores @ values, weights.projection)


class Products(NamedTuple):
    """The two products that a linear layer depends on: `e <- e + sum_heads PV G KQ e`, `G = sum_i e_i e_i^T`.

    Scale (and for one head sign) can move between them without changing the layer.
    """

    kq: Tensor
    """`K^T Q` `[layer, head, width, width]`."""
    pv: Tensor
    """`P V` `[layer, head, width, width]`."""


def products(theta: Theta) -> Products:
    """Each layer's `K^T Q` and `P V`."""
    weights = stacked(theta)
    return Products(weights.key.mT @ weights.query, weights.projection @ weights.value)


def implied_map(theta: Theta, context: Tensor, outputs: int, layers: int, damping: float, y_only: bool) -> Tensor:
    """The linear map from a query's token to its last `outputs` coordinates after linear layers.

    A linear layer sees the context through `G = E^T E` alone and is linear in the query, so the query's token ends as
    `(I + B_K) ... (I + B_1) e_q` with `B = sum_heads PV G KQ`, while `G <- (I + B) G (I + B)^T`.

    Args:
        theta: weights of one layer (used `layers` times) or of each.
        context: the context's tokens E `[task, shot, width]`.
        outputs: width of a target, the last coordinates of a token.
        layers: how many layers.
        damping: factor on each layer's update.
        y_only: layers update the target's coordinates and leave the input's.

    Returns:
        The map `[task, outputs, width]`.
    """
    width = context.shape[-1]
    kq, pv = products(theta)
    if damping != 1.0:
        pv = damping * pv
    if y_only:
        pv = pv * (torch.arange(width, device=pv.device) >= width - outputs)[:, None]
    own = [layer % len(kq) for layer in range(layers)]
    unit = torch.eye(width, dtype=context.dtype, device=context.device)
    grams = [context.mT @ context]
    for layer in range(layers - 1):
        step = unit + _left(unit, pv[own[layer]], grams[-1], kq[own[layer]])
        grams.append(step @ grams[-1] @ step.mT)
    found = unit[width - outputs :]
    for layer in reversed(range(layers)):
        found = found + _left(found, pv[own[layer]], grams[layer], kq[own[layer]])
    return found


def _left(rows: Tensor, pv: Tensor, gram: Tensor, kq: Tensor) -> Tensor:
    """`sum_heads rows PV G KQ` `[task, r, width]`, for rows `[r, width]` or `[task, r, width]`."""
    heads, width, _ = pv.shape
    valued = rows @ (pv[0] if heads == 1 else pv.transpose(0, 1).flatten(1))  # [..., r, head * width]
    valued = valued.reshape(*rows.shape[:-2], -1, width)  # [..., r * head, width]
    # Where rows are equal for all tasks, one product with every task's G (which is symmetric) does.
    mixed = (gram @ valued.mT).mT if rows.ndim == 2 else valued @ gram
    return mixed.reshape(len(gram), -1, heads * width) @ kq.flatten(0, 1)
