"""Limited-memory BFGS on many independent problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Values `[n]` and gradients `[n, p]` at points `[n, p]` of the problems with these numbers `[n]`."""

SUFFICIENT, HALVINGS = 1e-4, 25


def minimise(fn: Slope, start: Tensor, *, steps: int, history: int = 10, tolerance: float = 1e-6) -> Tensor:
    """Minima `[problem, p]` of smooth functions; no problem sees another (Nocedal and Wright 2006, algorithm 7.4).

    Args:
        fn: values and gradients.
        start: first points `[problem, p]`.
        steps: iterations at most.
        history: pairs of steps and changes of the gradient that are kept.
        tolerance: a problem whose value falls by less than this share of it in a step has converged.
    """
    result = start.clone()
    alive = torch.arange(len(start), device=start.device)
    point = start
    value, slope = fn(point, alive)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        direction = -_scaled(slope, pairs)
        along = (direction * slope).sum(1)
        uphill = along >= 0
        direction, along = (
            torch.where(uphill[:, None], -slope, direction),
            torch.where(uphill, -slope.square().sum(1), along),
        )
        length = torch.ones_like(value) if pairs else 1 / slope.abs().sum(1).clamp(min=1)
        new_point, new_value, new_slope = point.clone(), value.clone(), slope.clone()
        waiting = torch.arange(len(alive), device=start.device)
        for _ in range(HALVINGS):
            tried = point[waiting] + length[waiting, None] * direction[waiting]
            there, slope_there = fn(tried, alive[waiting])
            good = there <= value[waiting] + SUFFICIENT * length[waiting] * along[waiting]
            rows = waiting[good]
            new_point[rows], new_value[rows], new_slope[rows] = tried[good], there[good], slope_there[good]
            waiting = waiting[~good]
            if len(waiting) == 0:
                break
            length[waiting] /= 2
        pairs = [*pairs[max(0, len(pairs) + 1 - history) :], (new_point - point, new_slope - slope)]
        going = (value - new_value) > tolerance * new_value.abs().clamp(min=1e-12)
        result[alive] = new_point
        alive, point, value, slope = alive[going], new_point[going], new_value[going], new_slope[going]
        pairs = [(s[going], y[going]) for s, y in pairs]
        if len(alive) == 0:
            break
    return result


def _scaled(slope: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian's estimate times the gradient, `[n, p]`; pairs without positive curvature are passed over."""
    q, kept = slope, list[tuple[Tensor, Tensor, Tensor, Tensor]]()
    scale = torch.ones_like(slope[:, 0])
    for s, y in reversed(pairs):
        curvature = (s * y).sum(1)
        good = curvature > 1e-10 * y.square().sum(1)
        rho = torch.where(good, 1 / torch.where(good, curvature, 1.0), 0.0)
        a = rho * (s * q).sum(1)
        q = q - a[:, None] * y
        if not kept:
            scale = torch.where(good, curvature / y.square().sum(1).clamp(min=1e-300), 1.0)
        kept.append((s, y, rho, a))
    q = scale[:, None] * q
    for s, y, rho, a in reversed(kept):
        q = q + (a - rho * (y * q).sum(1))[:, None] * s
    return q
