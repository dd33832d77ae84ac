"""Whole episodes of many levels in one batch."""

from __future__ import annotations

import torch
from metaloop import Key
from metaloop_rl.rollout import Policy
from metaloop_rl.tasks import Worlds
from torch import Tensor


def mean_returns(worlds: Worlds, policy: Policy, n: int, keys: Key) -> Tensor:
    """Mean undiscounted return of `n` episodes of each level, `[task]`.

    Args:
        worlds: the levels.
        policy: actions `[task, n]` for observations `[task, n, ...]` and keys `[task, n]`.
        n: episodes of each level.
        keys: `[task]`.
    """
    state, seen = worlds.env.reset(keys.fold("reset"), n, worlds.parameters)
    lives = keys.split(n)  # [task, episode]
    alive = torch.ones(lives.shape, dtype=torch.bool, device=keys.device)
    total = torch.zeros(lives.shape, dtype=torch.get_default_dtype(), device=keys.device)
    for t in range(worlds.env.max_steps):
        step = worlds.env.step(state, policy(seen, lives.fold("policy", t)), lives.fold("environment", t))
        state, seen = step.state, step.observation
        total = total + step.reward * alive
        alive = alive & ~step.done
        if not bool(alive.any()):
            break
    return total.mean(-1)
