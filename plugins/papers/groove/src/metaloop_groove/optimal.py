"""The best that anyone can do in a grid world: dynamic programming over place, objects that are there, and time."""

from __future__ import annotations

import torch
from metaloop_rl.envs.grid import GridParameters, GridWorld
from torch import Tensor


def optimal_return(env: GridWorld, level: GridParameters) -> Tensor:
    """Expected undiscounted return of one episode under the optimal policy, `[level]`.

    All levels in one batch, backwards over time. Objects must lie in different cells and stay there.

    Args:
        env: the kind of grid.
        level: its parameters `[level, ...]`.
    """
    objects = level.cells.shape[-1]
    mask = torch.arange(1 << objects, device=level.cells.device)  # every set of objects, by its number
    held = (mask[:, None] >> torch.arange(objects, device=mask.device)) & 1 > 0  # [mask, object]
    back = _respawns(level, held)  # [level, mask, mask]
    target = _targets(env, level.walls)  # [level, cell, action]
    at = level.cells[..., None].expand(-1, -1, len(mask))  # [level, object, mask]
    without = mask & ~(1 << torch.arange(objects, device=mask.device)[:, None])  # [object, mask]
    value = level.reward.new_zeros(len(level.start), env.cells, len(mask))  # [level, cell, mask]
    goes_on = (1.0 - level.terminate)[..., None]
    for left in range(1, int(level.steps.max()) + 1):
        # What it is worth to arrive in a cell while these objects are there.
        arrive = value @ back.mT
        after = value.gather(1, at).gather(2, without.expand_as(at)) @ back.mT  # [level, object, mask]: it is collected
        collect = level.reward[..., None] + goes_on * after
        arrive = arrive.scatter(1, at, torch.where(held.T, collect, arrive.gather(1, at)))
        best = _moved(arrive, target).amax(2)
        value = torch.where((left <= level.steps)[:, None, None], best, value)
    start = (level.exists.to(torch.int64) << torch.arange(objects, device=mask.device)).sum(-1)
    rows = torch.arange(len(start), device=mask.device)
    return value[rows, level.start, start]


def _moved(arrive: Tensor, target: Tensor) -> Tensor:
    """`arrive` `[level, cell, mask]` where each action leads, `[level, cell, action, mask]`."""
    rows = torch.arange(len(arrive), device=arrive.device)[:, None, None]
    return arrive[rows, target]


def _targets(env: GridWorld, walls: Tensor) -> Tensor:
    """The cell that each action leads to, `[level, cell, action]`."""
    n = len(walls)
    cell = torch.arange(env.cells, device=walls.device)[None, :, None].expand(n, -1, env.actions)
    action = torch.arange(env.actions, device=walls.device).expand_as(cell)
    return env.walk(walls[:, None, None].expand(n, env.cells, env.actions, -1), cell, action)


def _respawns(level: GridParameters, held: Tensor) -> Tensor:
    """Chance that one set of objects becomes another in a step, nothing being collected, `[level, mask, mask]`."""
    before, after = held[:, None], held[None]  # [mask, 1, object], [1, mask, object]
    chance = torch.where(level.exists, level.respawn, 0.0)[:, None, None]  # [level, 1, 1, object]
    appears = torch.where(after, chance, 1.0 - chance)
    return torch.where(before, after.to(chance.dtype), appears).prod(-1)
