"""The optimal return of a level, against a model written down apart from the environment and against a hand's."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from metaloop import Incompatible, Key
from metaloop_groove.a2c import A2C
from metaloop_groove.buffer import LevelBuffer
from metaloop_groove.optimal import optimal_return
from metaloop_groove.scores import OptimalRegret
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.grid import GridObject, GridParameters, GridWorld
from metaloop_rl.tasks import Environments


def by_hand(side: int, level: GridParameters) -> float:
    """One level's value by recursion over states."""
    walls = set(level.walls.nonzero()[:, 0].tolist())
    lies, exists = level.cells.tolist(), level.exists.tolist()
    pays, ends, returns = (part.double().tolist() for part in (level.reward, level.terminate, level.respawn))
    objects = range(len(lies))

    @cache
    def value(cell: int, there: tuple[bool, ...], left: int) -> float:
        if left == 0:
            return 0.0
        row, column = divmod(cell, side)
        worth = []
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
            inside = 0 <= row + down < side and 0 <= column + right < side
            target = side * (row + down) + column + right
            new = target if inside and target not in walls else cell
            found = [there[i] and lies[i] == new for i in objects]
            gain = sum(pays[i] for i in objects if found[i])
            goes_on = 1 - sum(ends[i] for i in objects if found[i])
            for present in itertools.product((False, True), repeat=len(lies)):
                chances = [
                    float(not present[i])
                    if found[i] or not exists[i]
                    else float(present[i])
                    if there[i]
                    else (returns[i] if present[i] else 1 - returns[i])
                    for i in objects
                ]
                if weight := goes_on * math.prod(chances):
                    gain += weight * value(new, present, left - 1)
            worth.append(gain)
        return max(worth)

    return value(int(level.start), tuple(exists), int(level.steps))


def test_it_is_the_value_that_recursion_over_states_finds() -> None:
    env = GridWorld(
        min_steps=3,
        max_steps=9,
        side=(2, 3),
        walls=2,
        objects=(GridObject(reward=(0.0, 1.0)), *[GridObject(respawn=(0.2, 0.9), terminate=(0.1, 0.5))] * 2),
    )
    levels = env.draw(Key.of(0).split(12))
    found = optimal_return(
        env, GridParameters(*(part.double() if part.is_floating_point() else part for part in levels))
    )
    expected = [by_hand(3, GridParameters(*(part[i] for part in levels))) for i in range(12)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.std() > 0.1


def test_a_prize_that_comes_back() -> None:
    """Taken at the first step, back at the second's end with chance 0.2, so there for the third."""
    prize = GridObject(reward=(1.0, 1.0), terminate=(0.0, 0.0), respawn=(0.2, 0.2))
    for steps, expected in ((1, 1.0), (2, 1.0), (3, 1.2), (4, 1.2 + 0.8 * 0.2)):
        env = GridWorld(plan=("A1",), objects=(prize,), min_steps=steps, max_steps=steps)
        assert optimal_return(env, env.draw(Key.of(0).split(2))).tolist() == pytest.approx([expected] * 2)


def test_nobody_does_better_and_a2c_comes_near() -> None:
    env = grid_family("small").but(view="index")
    levels = Environments(env=env).sample({}, 24, Key.of(3)).tasks
    best = optimal_return(env, levels.parameters)
    keys = Key.of(4).split(24)
    a2c = A2C(steps=40, workers=16, episodes=64)
    own, random = (agent.live({}, levels, keys)[0].fitness for agent in (a2c, a2c.but(steps=0)))
    assert bool((own <= best + 0.5).all())  # 64 episodes are not their expectation
    assert float(own.mean()) < float(best.mean()) + 0.1
    assert float((own - random).mean()) > 0.75 * float((best - random).mean())


def test_where_the_optimum_is_not_known_it_is_no_score() -> None:
    for env in (CartPole(), GridWorld(random_start=True)):
        with pytest.raises(Incompatible, match="grid-world with fixed places alone"):
            LevelBuffer(tasks=Environments(env=env), score=OptimalRegret())
    assert torch.isfinite(
        OptimalRegret().reference(
            Environments(env=grid_family("small")),
            Environments(env=grid_family("small")).sample({}, 3, Key.of(0)).tasks,
            Key.of(0),
            Key.of(0).split(3),
        )
    ).all()
