"""The weights with which linear self-attention is gradient descent (paper, proposition 1), beside trained ones."""

from __future__ import annotations

import torch
from metaloop import UserError
from torch import Tensor

from metaloop_icl_gd.attention import Products, products

Theta = dict[str, Tensor]


def construction(
    inputs: int,
    outputs: int = 1,
    *,
    eta: float,
    gamma: float = 0.0,
    start: Tensor | None = None,
    key_size: int | None = None,
    device: torch.device | str = "cpu",
) -> Theta:
    """A theta of one shared layer that takes one step of gradient descent on its context per layer.

    `K = Q = diag(1_d, 0)`, `V = [[0, 0], [W0, -1]]`, `P = diag(0_d, eta)` (the paper's proposition 1); for GD++
    `V = [[1_d, 0], [W0, -1]]`, `P = diag(-gamma_d, eta)`. Targets become residuals of the stepped model, and a query's
    slot changes by minus what the steps add to its prediction.

    Args:
        inputs: d, width of an input.
        outputs: width of a target.
        eta: step size over N.
        gamma: strength of GD++'s curvature correction.
        start: W0 `[outputs, d]`, the model to start from; None: 0.
        key_size: rows of K, Q and V; None: width of a token.
        device: where theta is.

    Raises:
        UserError: `key_size` is below the d + outputs rows that the construction fills.
    """
    width = inputs + outputs
    size = width if key_size is None else key_size
    if size < width:
        raise UserError(f"key_size: the construction fills {width} rows, one per coordinate of a token, not {size}")
    key, value = torch.zeros(2, size, width, device=device)
    projection = torch.zeros(width, size, device=device)
    x, y = torch.arange(inputs), torch.arange(inputs, width)
    key[x, x] = 1.0
    value[y, y], projection[y, y] = -1.0, eta
    if start is not None:
        value[inputs:width, :inputs] = start
    if gamma:
        value[x, x], projection[x, x] = 1.0, -gamma
    weights = {"query": key.clone(), "key": key, "value": value, "projection": projection}
    return {name: weight[None, None] for name, weight in weights.items()}


def normalised(theta: Theta, inputs: int) -> Products:
    """The products of single-head layers with their ambiguity of scale removed.

    `K^T Q` is divided by the mean of its first `inputs` diagonal entries, and `P V` multiplied by it.
    """
    kq, pv = products(theta)
    scale = kq.diagonal(dim1=-2, dim2=-1)[..., :inputs].mean(-1)[..., None, None]
    return Products(kq / scale, pv * scale)


def factored(wanted: Products) -> Theta:
    """A theta with these products, whose K and V are identities."""
    unit = torch.eye(wanted.kq.shape[-1], dtype=wanted.kq.dtype, device=wanted.kq.device)
    unit = unit.expand_as(wanted.kq)
    return {"query": wanted.kq, "key": unit, "value": unit, "projection": wanted.pv}


def interpolate(theta: Theta, other: Theta, inputs: int, weight: float = 0.5) -> Theta:
    """The layers whose normalised products are between those of two thetas; `weight` is the first's share."""
    ours, theirs = normalised(theta, inputs), normalised(other, inputs)
    return factored(Products(*(weight * a + (1.0 - weight) * b for a, b in zip(ours, theirs, strict=True))))
