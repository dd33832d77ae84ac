"""What black-box meta-optimizers share: perturbations, fitness shaping, one outcome from many."""

from __future__ import annotations

from typing import Literal

import torch
from metaloop import tree
from metaloop.key import Key
from metaloop.learner import from_rows, to_rows
from metaloop.outcome import Outcome
from torch import Tensor

from metaloop_basics.meta_optimizers.descent import Theta

Shaping = Literal["centered_rank", "z_score", "pair_rank", "none"]
"""How a population's fitness becomes the weights of its perturbations; see `shaped`."""


def normal_like(theta: Theta, n: int, key: Key) -> Theta:
    """`n` standard normal perturbations, leaves `[n, ...]`."""
    generator = key.generator(next(iter(theta.values())).device)
    return {
        name: torch.randn(n, *value.shape, generator=generator, dtype=value.dtype, device=value.device)
        for name, value in theta.items()
    }


def moved(theta: Theta, noise: Theta, scale: float) -> Theta:
    """`theta + scale * noise`, leaves `[n, ...]`."""
    return {name: value + scale * noise[name] for name, value in theta.items()}


def weighted(noise: Theta, weights: Tensor) -> Theta:
    """The sum over perturbations `[n, ...]` with weights `[n]`, in theta's precision even under autocast."""
    with torch.autocast(weights.device.type, enabled=False):
        return {name: torch.tensordot(weights.to(value.dtype), value, dims=1) for name, value in noise.items()}


def shaped(fitness: Tensor, shaping: Shaping) -> Tensor:
    """Weights `[P]` of a population's fitness `[P]`, its second half the mirror images of the first.

    `centered_rank`: ranks scaled to [-1/2, 1/2] (Salimans et al. 2017); `z_score`: zero mean, unit variance;
    `pair_rank`: 1/2 for the better of each antithetic pair, -1/2 for the other (Jackson et al. 2024), which compares
    no candidates on different tasks; `none`: the fitness itself.
    """
    if shaping == "none":
        return fitness
    if shaping == "z_score":
        return (fitness - fitness.mean()) / (fitness.std(correction=0) + 1e-8)
    fitness = torch.where(fitness.isnan(), -torch.inf, fitness)  # a candidate that broke is the worst
    if shaping == "pair_rank":
        better = 0.5 * torch.sign(fitness - fitness.roll(len(fitness) // 2))
        return torch.nan_to_num(better)  # both infinite: a tie
    return _ranks(fitness) / (len(fitness) - 1) - 0.5


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0, ties sharing their mean: a flat objective then gives no gradient."""
    ordered = values.sort().values
    low, high = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (low + high - 1) / 2


def mean_outcome(outcome: Outcome) -> Outcome:
    """One row per task: means over the leading axis of rows `[candidate, task]`."""
    return from_rows(tree.tree_map(_mean, to_rows(outcome)))


def _mean(rows: Tensor) -> Tensor:
    return (rows if rows.is_floating_point() else rows.to(torch.get_default_dtype())).mean(0)


def both(positive: Outcome, negative: Outcome) -> Outcome:
    """The mean of two outcomes with rows `[task]`; `done` is the first one's."""
    return mean_outcome(from_rows(tree.stack([to_rows(positive), to_rows(negative)])))._replace(done=positive.done)
