"""How unlike all others an individual behaves (Lehman & Stanley 2011)."""

from __future__ import annotations

import torch
from metaloop import Outcome, UserError
from metaloop_rl.learners.episodic import BEHAVIOUR
from torch import Tensor

_ROWS = 1024
"""Behaviours compared with all others at a time: what bounds the memory."""


def behaviours(outcome: Outcome) -> Tensor:
    """Each candidate's behaviour `[candidate, k]`: means over tasks of the metrics `behaviour/0`, ...

    Raises:
        UserError: the learner gives no such metrics.
    """
    found = [value.mean(1) for name, value in outcome.metrics.items() if name.startswith(BEHAVIOUR)]
    if not found:
        raise UserError(
            f"novelty search compares metrics named {BEHAVIOUR}0, {BEHAVIOUR}1, ..., and this learner has none: set "
            "learner.behaviour=final, or objective=fitness"
        )
    return torch.stack(found, dim=1)


def novelty(found: Tensor, archive: Tensor, neighbours: int) -> Tensor:
    """Mean Euclidean distance to the nearest neighbours among the population and the archive, `[candidate]`.

    Args:
        found: behaviours `[candidate, k]`; nobody is a neighbour of itself.
        archive: earlier behaviours `[archived, k]`.
        neighbours: how many count, or all where there are fewer.
    """
    others = torch.cat([found, archive])
    count = min(neighbours, len(others) - 1)
    if count == 0:
        return torch.zeros_like(found[:, 0])
    rows = torch.arange(len(found), device=found.device)
    return torch.cat([_novelty(found[part], part, others, count) for part in torch.split(rows, _ROWS)])


def _novelty(found: Tensor, own: Tensor, others: Tensor, count: int) -> Tensor:
    # the quicker formula with a matrix product loses small distances
    away = torch.cdist(found, others, compute_mode="donot_use_mm_for_euclid_dist")
    away.scatter_(1, own.unsqueeze(1), torch.inf)
    return away.topk(count, largest=False).values.mean(1)
