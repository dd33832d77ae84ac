"""Grid worlds: the rules, level by level, and the families that levels are drawn from."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from metaloop import Key, UserError, tree
from metaloop_rl.envs.env import EnvState
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.grid import GridObject, GridWorld
from torch import Tensor

UP, DOWN, LEFT, RIGHT, STAY = range(5)
PRIZE = GridObject(reward=(1.0, 1.0), terminate=(0.0, 0.0), respawn=(0.0, 0.0))
TRAP = GridObject(reward=(-0.5, -0.5), terminate=(1.0, 1.0), respawn=(0.0, 0.0))
ROOM = ("A#1", "..#", "2..")
"""Cells 0 to 8, walls at 1 and 5."""
FAMILIES = ("small", "medium", "large", "all", "dense", "sparse", "long", "longer", "long-dense")


def walk(env: GridWorld, actions: list[int], n: int = 1) -> list[Any]:
    """Steps of `n` equal agents in one level, without resets."""
    key = Key.of(0)
    state, _ = env.reset(key, n, env.draw(key))
    found = []
    for t, action in enumerate(actions):
        found.append(env.step(state, torch.full((n,), action), key.fold(t).split(n)))
        state = found[-1].state
    return found


def test_walls_and_borders_stop_the_agent() -> None:
    env = GridWorld(plan=ROOM, objects=(PRIZE, TRAP), least=0)
    actions = [RIGHT, UP, LEFT, STAY, DOWN, RIGHT, RIGHT, DOWN, DOWN, RIGHT, RIGHT, UP, LEFT, UP, UP]
    cells = [int(step.state.physics.agent) for step in walk(env, actions)]
    assert cells == [0, 0, 0, 0, 3, 4, 4, 7, 7, 8, 8, 8, 7, 4, 4]


def test_an_object_pays_once_and_is_gone_and_a_trap_ends_the_episode() -> None:
    plan = ("A1.2",)
    steps = walk(GridWorld(plan=plan, objects=(PRIZE, TRAP), least=2), [RIGHT, STAY, LEFT, RIGHT, RIGHT, RIGHT])
    assert [float(step.reward) for step in steps] == [1, 0, 0, 0, 0, -0.5]
    assert [bool(step.terminated) for step in steps] == [False] * 5 + [True]
    assert [step.state.physics.present.tolist() for step in steps[::5]] == [[[False, True]], [[False, False]]]


def test_an_object_that_the_level_lacks_never_comes() -> None:
    eager = GridObject(reward=(1.0, 1.0), terminate=(0.0, 0.0), respawn=(1.0, 1.0))
    env = GridWorld(plan=("A.2",), objects=(PRIZE, eager), least=1)
    key, n = Key.of(0), 50
    state, _ = env.restart(env.draw(key.split(n)), key.split(n))
    exists = state.parameters.exists
    assert 0 < int(exists[:, 1].sum()) < n
    for t in range(4):
        state = env.step(state, torch.full((n,), RIGHT), key.fold(t).split(n)).state
        assert not bool((state.physics.present & ~exists).any())


def test_chances_to_end_and_to_come_back_are_what_the_level_says() -> None:
    n = 20_000
    thing = GridObject(reward=(1.0, 1.0), terminate=(0.3, 0.3), respawn=(0.2, 0.2))
    taken, later, much_later = walk(GridWorld(plan=("A1",), objects=(thing,)), [RIGHT, STAY, STAY], n)
    assert float(taken.terminated.float().mean()) == pytest.approx(0.3, abs=0.015)
    assert not bool(taken.state.physics.present.any())
    assert float(later.state.physics.present.float().mean()) == pytest.approx(0.2, abs=0.015)
    assert float(later.reward.mean()) == 0
    back = later.state.physics.present[:, 0]
    assert bool((much_later.reward == back).all())  # who stands where it comes back collects it


def test_the_exact_expected_return_of_a_random_walk() -> None:
    """The chances of all states, step by step, from a model written down apart from the environment."""
    steps, n = 8, 200_000
    env = GridWorld(
        max_steps=steps,
        min_steps=steps,
        plan=("A.#", "#1.", "2.."),
        objects=(
            GridObject(reward=(1.0, 1.0), terminate=(0.25, 0.25), respawn=(0.3, 0.3)),
            GridObject(reward=(-0.7, -0.7), terminate=(0.1, 0.1), respawn=(0.5, 0.5)),
        ),
        least=2,
    )
    walls, lies, pays = {2, 3}, (4, 6), (1.0, -0.7)
    ends, returns = (0.25, 0.1), (0.3, 0.5)
    chances, expected = {(0, True, True): 1.0}, 0.0
    for _ in range(steps):
        after: dict[Any, float] = {}
        for (cell, *there), chance in chances.items():
            row, column = divmod(cell, 3)
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
                target = 3 * (row + down) + column + right
                inside = 0 <= row + down < 3 and 0 <= column + right < 3
                new = target if inside and target not in walls else cell
                found = [there[i] and lies[i] == new for i in range(2)]
                expected += chance / 5 * sum(pays[i] for i in range(2) if found[i])
                goes_on = chance / 5 * (1 - sum(ends[i] for i in range(2) if found[i]))
                for present in itertools.product((False, True), repeat=2):
                    parts = []
                    for i in range(2):
                        stays = 0.0 if found[i] else 1.0 if there[i] else returns[i]
                        parts.append(stays if present[i] else 1 - stays)
                    if weight := goes_on * math.prod(parts):
                        after[new, *present] = after.get((new, *present), 0.0) + weight
        chances = after
    key = Key.of(1)
    state, _ = env.reset(key, n, env.draw(key))
    total, alive = torch.zeros(n), torch.ones(n)
    for t in range(steps):
        keys = key.fold(t).split(n)
        step = env.step(state, keys.fold("act").randint(0, 5), keys)
        total, alive = total + alive * step.reward, alive * ~step.terminated
        state = step.state
    assert bool(step.truncated.all())
    assert float(total.mean()) == pytest.approx(expected, abs=4 * float(total.std()) / math.sqrt(n))
    assert float(alive.mean()) == pytest.approx(sum(chances.values()), abs=4 * 0.5 / math.sqrt(n))


def test_a_state_has_a_number_of_its_own() -> None:
    env = GridWorld(plan=("..", ".."), objects=(PRIZE, TRAP))
    numbers = set()
    parameters = env.draw(Key.of(0))
    for agent, *present in itertools.product(range(4), (False, True), (False, True)):
        physics = env.start(parameters, Key.of(0))._replace(agent=torch.tensor(agent), present=torch.tensor(present))
        number = int(env.index(physics))
        seen = env.observe(parameters, physics)
        assert seen.shape == env.spec.observation == (env.state_count,)
        assert seen.nonzero().tolist() == [[number]]
        assert int(env.but(view="index").observe(parameters, physics)) == number
        numbers.add(number)
    assert numbers == set(range(16)) == set(range(env.state_count))
    assert env.spec.states is None
    assert env.but(view="index").spec.states == 16


def test_an_image_shows_walls_the_agent_and_the_objects_that_are_there() -> None:
    env = GridWorld(plan=ROOM, objects=(PRIZE, TRAP), least=2, view="image")
    seen = walk(env, [DOWN, DOWN])[-1].observation[0]
    assert seen.shape == env.spec.observation == (4, 3, 3)
    assert [plane.flatten().nonzero().flatten().tolist() for plane in seen] == [[1, 5], [6], [2], []]


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_of_a_family_can_be_played_and_differ_as_it_says(name: str) -> None:
    env, n = grid_family(name), 500
    levels = env.draw(Key.of(0).split(n))
    places = torch.cat([levels.start[:, None], levels.cells], dim=1)
    assert not bool(levels.walls.gather(1, places).any())
    assert all(len(set(row)) == len(row) for row in places.tolist())
    assert len({tuple(row) for row in places.tolist()}) > n / 2
    for i, thing in enumerate(env.objects):
        for part in ("reward", "terminate", "respawn"):
            low, high = getattr(thing, part)
            values = getattr(levels, part)[:, i]
            assert low - 1e-6 <= float(values.min()) <= float(values.max()) <= high + 1e-6
            middle = (low + high) / 2 if part == "reward" or low == 0 else math.sqrt(low * high)
            spread = 1 if part == "reward" or low == high else high / low
            assert float(values.median()) == pytest.approx(middle, abs=0.15, rel=0.1 * spread)
    assert int(levels.steps.min()) >= env.min_steps
    assert int(levels.steps.max()) <= env.max_steps
    count = levels.exists.sum(1)
    assert set(count.tolist()) == set(range(env.least, len(env.objects) + 1))
    assert bool((levels.exists.int().diff(dim=1) <= 0).all())


def test_what_a_map_leaves_open_lies_anywhere_else() -> None:
    levels = GridWorld(plan=("1..", "###", "##."), objects=(PRIZE, TRAP, TRAP)).draw(Key.of(0).split(300))
    assert set(levels.cells[:, 0].tolist()) == {0}
    assert {tuple(sorted(row)) for row in torch.cat([levels.start[:, None], levels.cells], 1).tolist()} == {
        (0, 1, 2, 8)
    }
    assert set(levels.start.tolist()) == {1, 2, 8}


def test_walls_give_way_where_they_would_fill_the_grid() -> None:
    levels = GridWorld(side=(2, 3), walls=9, objects=(PRIZE, TRAP)).draw(Key.of(0).split(100))
    places = torch.cat([levels.start[:, None], levels.cells], dim=1)
    assert not bool(levels.walls.gather(1, places).any())
    assert set((~levels.walls).sum(1).tolist()) == {3}


def test_random_levels_have_every_size_and_the_walls_that_fit() -> None:
    env = grid_family("small")
    levels = env.draw(Key.of(3).split(3000))
    outside = levels.walls.view(-1, 6, 6)
    side = 6 - (outside.all(1).flip(1).int().cumprod(1)).sum(1)
    assert {4, 5, 6} <= set(side.tolist())
    whole = outside[side == 6].flatten(1).sum(1).float()
    assert 4 < float(whole.mean()) <= 7.01  # a column of walls may look like a smaller grid, a place may open a wall


def test_thousands_of_levels_play_in_one_batch_as_they_do_alone() -> None:
    env, n, key = grid_family("all").but(view="index"), 2000, Key.of(4)
    levels = env.draw(key.split(n))
    state, _ = env.restart(levels, key.fold("begin").split(n))
    steps = []
    for t in range(50):
        keys = key.fold(t).split(n)
        steps.append(env.step_and_reset(state, keys.fold("act").randint(0, 5), keys))
        state = steps[-1].state
    assert len({int(step.done.sum()) for step in steps}) > 3
    assert float(torch.stack([step.reward for step in steps]).abs().sum()) > 0
    for i in (0, 777, 1999):
        alone, _ = env.restart(tree.index(levels, i), key.fold("begin").split(n)[i])
        for t in range(50):
            keys = key.fold(t).split(n)[i]
            step = env.step_and_reset(alone, keys.fold("act").randint(0, 5), keys)
            alone = step.state
            assert int(step.observation) == int(steps[t].observation[i])
            assert float(step.reward) == float(steps[t].reward[i])


def test_a_random_start_is_any_free_cell_but_never_an_objects() -> None:
    env = GridWorld(plan=("A#1", "..#", "2.."), objects=(PRIZE, TRAP), random_start=True)
    state, _ = env.reset(Key.of(0), 600, env.draw(Key.of(0)))
    begun = torch.bincount(state.physics.agent, minlength=9)
    assert begun[[1, 2, 5, 6]].sum() == 0
    assert int(begun[[0, 3, 4, 7, 8]].min()) > 80


def test_random_objects_lie_in_free_cells_and_come_back_elsewhere() -> None:
    thing = GridObject(reward=(1.0, 1.0), terminate=(0.0, 0.0), respawn=(1.0, 1.0))
    env = GridWorld(plan=("A..", ".#.", "..."), objects=(thing,) * 3, least=3, random_objects=True, view="image")
    key, n = Key.of(0), 500
    state, _ = env.reset(key, n, env.draw(key))
    legal(state)
    assert set(state.physics.cells.flatten().tolist()) == {1, 2, 3, 5, 6, 7, 8}
    moved = 0
    for t in range(20):
        before = state.physics
        keys = key.fold(t).split(n)
        state = env.step(state, keys.fold("act").randint(0, 5), keys).state
        legal(state)
        back = state.physics.present & ~before.present
        assert bool((back | (state.physics.cells == before.cells)).all())
        moved += int((back & (state.physics.cells != before.cells)).sum())
    assert moved > n


def legal(state: EnvState) -> None:
    """No two things that are there share a cell, nor with a wall or the agent."""
    cells: Tensor = torch.where(state.physics.present, state.physics.cells, -1 - torch.arange(3))
    assert all(len(set(row)) == 3 for row in cells.tolist())
    assert not bool((cells == state.physics.agent[:, None]).any())
    assert not bool((cells == 4).any())


def test_a_level_ends_at_its_own_time() -> None:
    env = GridWorld(min_steps=2, max_steps=9, objects=(PRIZE,))
    levels = env.draw(Key.of(0).split(200))
    state, _ = env.restart(levels, Key.of(1).split(200))
    lived = np.zeros(200, dtype=int)
    for t in range(9):
        step = env.step(state, torch.full((200,), STAY), Key.of(2).fold(t).split(200))
        lived[step.truncated.numpy() & (lived == 0)] = t + 1
        state = step.state
    assert lived.tolist() == levels.steps.tolist()
    assert {2, 9} <= set(lived.tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_steps": 9, "max_steps": 5}, "min_steps and max_steps: 9 is above 5"),
        ({"side": (5, 4)}, "side: 5 is above 4"),
        ({"side": (1, 4)}, "1x1 cells have no room for the agent and 3 objects"),
        ({"walls": 40}, "walls: 40 is more than the 36 cells"),
        ({"least": 4}, "least: 4 of 3 objects"),
        ({"random_objects": True}, "random_objects needs view: image"),
        ({"plan": ("A?.", "...")}, r"plan: '\?' is none of # \. A 1 2 3"),
        ({"plan": ("A..A", "...")}, "plan: A is there more than once"),
        ({"plan": ("A.1", "###")}, "plan: no room for the agent and 3 objects"),
    ],
)
def test_mistakes_are_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GridWorld(**settings)


def test_mistakes_about_objects_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"GridObject.reward: 2 is above 1"):
        GridObject(reward=(2.0, 1.0))
    with pytest.raises(
        UserError, match=r"GridObject.terminate: \[0, 0\.5\] is no range of probabilities on a log scale"
    ):
        GridObject(terminate=(0.0, 0.5))
    with pytest.raises(UserError, match=r"there is no grid family 'tiny', only small, medium"):
        grid_family("tiny")


def test_a_grid_world_loads_from_its_dump() -> None:
    env = grid_family("longer")
    assert GridWorld.model_validate(env.model_dump(mode="json")) == env
