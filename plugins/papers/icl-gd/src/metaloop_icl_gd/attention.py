"""Self-attention layers as functions of their weights (paper, equations 1 and 3).

A layer moves each token `e_j` by attending to the context's tokens `e_i` alone:

    e_j <- e_j + sum_heads P sum_i V e_i (K e_i . Q e_j)

with the scores `K e_i . Q e_j` replaced by their softmax over i, divided by sqrt(key size), where a layer has one. The
weights enter through two products alone, `K^T Q` and `P V`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Theta = Mapping[str, Tensor]


class Products(NamedTuple):
    """The two products that layers depend on; scale (and for one head sign) can move between them."""

    kq: Tensor
    """`K^T Q` `[layer, head, width, width]`."""
    pv: Tensor
    """`P V` `[layer, head, width, width]`."""

    def of(self, layer: int) -> Products:
        """A layer's own products, without the layer axis; a single one serves all layers."""
        own = layer % len(self.kq)
        return Products(self.kq[own], self.pv[own])


def products(theta: Theta) -> Products:
    """Each layer's `K^T Q` and `P V`, from Q, K, V `[layer, head, key, width]` and P `[layer, head, width, key]`."""
    return Products(theta["key"].mT @ theta["query"], theta["projection"] @ theta["value"])


def attend(layer: Products, tokens: Tensor, context: Tensor, key_size: int | None = None) -> Tensor:
    """What the tokens `[task, n, width]` gain from the context `[task, shot, width]`.

    Args:
        layer: one layer's products `[head, width, width]`.
        tokens: the tokens that attend.
        context: the tokens that are attended to.
        key_size: for softmax attention; None: linear attention.
    """
    heads, width, _ = layer.kq.shape
    task, n, _ = tokens.shape
    queries = (tokens @ layer.kq.flatten(0, 1).mT).reshape(task, n * heads, width)
    scores = queries @ context.mT  # [task, n * head, shot]
    if key_size is not None:
        scores = torch.softmax(scores / key_size**0.5, dim=-1)
    mixed = (scores @ context).reshape(task, n, heads * width)
    return mixed @ layer.pv.transpose(0, 1).flatten(1).mT


def implied_map(layers: Products, count: int, context: Tensor, outputs: int) -> Tensor:
    """The linear map from a query's token to its last `outputs` coordinates after `count` linear layers.

    A linear layer maps a query's token by `e_q <- (I + sum_heads PV G KQ) e_q`, `G = sum_i e_i e_i^T` of the context
    at that layer, so all layers together are one matrix per task, of which predictions need the last rows.

    Args:
        layers: one layer's products, used `count` times, or those of each.
        count: how many layers.
        context: the context's tokens E `[task, shot, width]`.
        outputs: width of a target, the last coordinates of a token.

    Returns:
        The map `[task, outputs, width]`.
    """
    shots, width = context.shape[-2:]
    contexts = [context]
    for layer in range(count - 1):
        contexts.append(contexts[-1] + attend(layers.of(layer), contexts[-1], contexts[-1]))
    rows = torch.eye(width, dtype=context.dtype, device=context.device)[width - outputs :]
    for layer in reversed(range(count)):
        kq, pv = layers.of(layer)
        valued = rows @ pv.transpose(0, 1).flatten(1)  # [(task,) outputs, head * width]
        valued = valued.reshape(*rows.shape[:-2], -1, width)
        seen = _seen(valued, contexts[layer], gram=2 * shots >= width)  # [task, outputs * head, width]
        rows = rows + seen.reshape(len(context), outputs, -1) @ kq.flatten(0, 1)
    return rows


def _seen(rows: Tensor, context: Tensor, gram: bool) -> Tensor:
    """`rows G` with `G = E^T E`, for rows `[r, width]` or `[task, r, width]`; forming G pays where it is small."""
    if gram:
        second = context.mT @ context
        return rows @ second if rows.ndim == 3 else (second @ rows.mT).mT  # one product with every task's G
    scores = rows @ context.mT if rows.ndim == 3 else (context @ rows.mT).mT
    return scores @ context
