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
    """The two products that a linear layer depends on, for tokens as rows: `e <- e + e KQ G PV`, `G = sum_i e_i e_i^T`.

    Scale (and for one head sign) can move between them without changing the layer.
    """

    kq: Tensor
    """`Q^T K` `[layer, head, width, width]`."""
    pv: Tensor
    """`(P V)^T` `[layer, head, width, width]`."""


def products(theta: Theta) -> Products:
    """Each layer's `Q^T K` and `(P V)^T`."""
    weights = stacked(theta)
    return Products(weights.query.mT @ weights.key, (weights.projection @ weights.value).mT)


def implied_map(theta: Theta, context: Tensor, outputs: int, layers: int, damping: float, y_only: bool) -> Tensor:
    """The linear map that linear layers apply to a query token: its last `outputs` columns, `[task, width, outputs]`.

    A linear layer sees the context through `G = E^T E` alone and is linear in the query, so the query token ends as
    `e_q (I + B_1) ... (I + B_K)` with `B = KQ G PV`, while `G <- (I + B)^T G (I + B)`.

    Args:
        theta: weights of one layer (used `layers` times) or of each.
        context: the context tokens E `[task, shot, width]`.
        outputs: width of a target, the last coordinates of a token.
        layers: how many layers.
        damping: factor on each layer's update.
        y_only: layers update the target's coordinates and leave the input's.
    """
    width = context.shape[-1]
    kq, pv = products(theta)
    pv = pv * damping
    if y_only:
        pv = pv * (torch.arange(width, device=pv.device) >= width - outputs)
    unit = torch.eye(width, dtype=context.dtype, device=context.device)
    gram = context.mT @ context
    grams = [gram]
    for layer in range(layers - 1):
        own = layer % len(kq)
        moved = unit + _update(kq[own], pv[own], grams[-1], unit)
        grams.append(moved.mT @ grams[-1] @ moved)
    columns = unit[:, width - outputs :]
    for layer in reversed(range(layers)):
        own = layer % len(kq)
        columns = columns + _update(kq[own], pv[own], grams[layer], columns)
    return columns


def _update(kq: Tensor, pv: Tensor, gram: Tensor, columns: Tensor) -> Tensor:
    """`sum_heads KQ G PV columns`; columns `[width, c]` or `[task, width, c]`, the result has the task axis."""
    if columns.ndim == 2:  # equal for all tasks: one product with all of G's rows
        mixed = torch.einsum("tvu,huc->tvhc", gram, pv @ columns)
    else:
        mixed = torch.einsum("tvu,tuhc->tvhc", gram, torch.einsum("huw,twc->tuhc", pv, columns))
    return torch.einsum("hwv,tvhc->twc", kq, mixed)
