"""Pairs to swap in an order: which ones, what they do to the order, and which of them can be made at once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from metaloop import Key
from torch import Tensor

How = Literal["exchange", "after", "before"]
"""What a swap of (i, j), j before i, does: exchange them; move j right after i; move i to the place of j."""
Rule = Literal["kkt", "code", "random"]
"""How pairs are ranked: see `ranked`."""


class Swaps(NamedTuple):
    """Pairs (i, j), best candidates first, `[task, candidate]` each."""

    first: Tensor
    """int64: the place of j."""
    last: Tensor
    """int64: the place of i, further back."""
    valid: Tensor
    """bool: whether there is a pair (rows of a batch have different numbers of them)."""


def source(place: Tensor, first: Tensor, last: Tensor, how: How) -> Tensor:
    """From which place the node at `place` comes when the pair at places `first` < `last` is swapped."""
    inside = (place >= first) & (place <= last)
    if how == "exchange":
        return torch.where(place == first, last, torch.where(place == last, first, place))
    if how == "after":
        return torch.where(place == last, first, torch.where(inside, place + 1, place))
    return torch.where(place == first, last, torch.where(inside, place - 1, place))


def apply(order: Tensor, swaps: Swaps, chosen: Tensor, how: How) -> Tensor:
    """The orders `[task, place]` after the swaps in `chosen` `[task, candidate]`, whose intervals are disjoint."""
    place = torch.arange(order.shape[1], device=order.device)
    comes_from = place.expand_as(order).clone()
    task, which = chosen.nonzero(as_tuple=True)
    first, last = swaps.first[task, which, None], swaps.last[task, which, None]
    shift = source(place, first, last, how) - place  # [chosen, place]; 0 outside the interval
    comes_from.index_add_(0, task, shift)
    return order.gather(1, comes_from)


def disjoint(gain: Tensor, swaps: Swaps, least: Tensor) -> Tensor:
    """Greedily from the best to the worst: swaps that gain more than `least` `[task]` and overlap none taken before.

    Returns:
        `[task, candidate]` bool. Gains of disjoint intervals add up: a node's fit depends on the set before it alone.
    """
    open_ = swaps.valid & (gain > least[:, None])
    chosen = torch.zeros_like(open_)
    row = torch.arange(len(gain), device=gain.device)
    while bool(open_.any()):
        best = torch.where(open_, gain, -torch.inf).argmax(1)
        alive = open_.any(1)
        chosen[row, best] |= alive
        first, last = swaps.first[row, best, None], swaps.last[row, best, None]
        open_ &= (swaps.last < first) | (swaps.first > last) | ~alive[:, None]
    return chosen


def first_improving(gain: Tensor, swaps: Swaps, least: Tensor) -> Tensor:
    """The first candidate alone that gains more than `least` `[task]`: `[task, candidate]` bool."""
    good = swaps.valid & (gain > least[:, None])
    return good & (good.cumsum(1) == 1)


class Ranked(NamedTuple):
    """The two sets of candidates."""

    small: Swaps
    rest: Swaps
    """The large set without the small one."""


def ranked(walks: Tensor, slope: Tensor, rule: Rule, small: int, large: int, xi: float, keys: Key) -> Ranked:
    """The pairs (i, j) with j before i that are most likely to improve the order when swapped.

    `kkt`: pairs that violate a KKT condition, which asks for `[grad h]_ij > 0` or `[grad Q]_ij = 0`. Those with
    `|[grad Q]_ij| > xi` in rising order of `[grad h]_ij`, ties by falling `|[grad Q]_ij|`; so many as asked for.
    `code`: by `[grad h]_ij` alone, with all that tie with the last one (the authors' released code).
    `random`: any pairs, for comparison.

    Args:
        walks: `[grad h]_ij` at `[task, place of j, place of i]`.
        slope: `|[grad Q]_ij|` at the same.
        rule: how they are ranked.
        small: pairs in the small set.
        large: pairs in the large set.
        xi: the least slope.
        keys: `[task]`, for `random`.
    """
    d = walks.shape[-1]
    first, last = torch.triu_indices(d, d, 1, device=walks.device)
    small, large = min(small, len(first)), min(large, len(first))
    height, slope = walks[:, first, last], slope[:, first, last]  # [task, pair]
    if rule == "random":
        order, usable = keys.permutation(len(first)), torch.ones_like(height, dtype=torch.bool)
    elif rule == "code":
        order, usable = height.argsort(dim=1, stable=True), torch.ones_like(height, dtype=torch.bool)
    else:
        usable = slope > xi
        steepest = torch.where(usable, slope, -1.0).argsort(dim=1, descending=True, stable=True)
        height = torch.where(usable, height, torch.inf)
        order = steepest.gather(1, height.gather(1, steepest).argsort(dim=1, stable=True))
    usable, height = usable.gather(1, order), height.gather(1, order)
    if rule == "code":
        bounds = height[:, small - 1, None], height[:, large - 1, None]
        inner, outer = height <= bounds[0], height <= bounds[1]
    else:
        rank = torch.arange(len(first), device=walks.device).expand_as(order)
        inner, outer = rank < small, rank < large

    def chosen(mask: Tensor) -> Swaps:
        mask = mask & usable
        columns = mask.any(0).nonzero().squeeze(1)
        pair = order[:, columns]
        return Swaps(first[pair], last[pair], mask[:, columns])

    return Ranked(chosen(inner), chosen(outer & ~inner))
