"""Whole episodes of many levels in one batch."""

from __future__ import annotations

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
    total = alive = None
    for t in range(worlds.env.max_steps):
        step = worlds.env.step(state, policy(seen, lives.fold("policy", t)), lives.fold("environment", t))
        state, seen = step.state, step.observation
        total = step.reward if total is None else total + step.reward * alive
        alive = ~step.done if alive is None else alive & ~step.done
        if not bool(alive.any()):
            break
    assert total is not None
    return total.mean(-1)
