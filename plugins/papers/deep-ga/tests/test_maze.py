"""The hard maze, beside geometry by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import Key
from metaloop_deep_ga.maze import WALLS, HardMaze, MazePhysics, _nearest_wall, _ranges

MAZE = HardMaze()


def test_what_the_robot_sees_at_first() -> None:
    _, seen = MAZE.reset(Key.of(0), 1)
    bias, *ranges = seen[0, :7].tolist()
    assert bias == 1.0
    ahead = (77 + (201 - 184) / 37 * 31 - 36) / 100  # the wall from (77, 201) to (108, 164) at y = 184
    assert ranges[3 - 1] == pytest.approx(ahead, abs=1e-5)
    left_wall = (36 - (4 + 3 * (184 - 49) / 153)) / 100  # behind: from (4, 49) to (7, 202)
    assert ranges[5] == pytest.approx(left_wall, abs=1e-5)
    assert seen[0, 7:].tolist() == [0, 0, 0, 1]  # the goal lies at -91.7 degrees: right


@given(st.floats(10, 180), st.floats(15, 195), st.floats(0, 360))
@settings(deadline=None, max_examples=60)
def test_rays_and_distances_are_those_of_points_along_walls(x: float, y: float, heading: float) -> None:
    place = torch.tensor([x, y], dtype=torch.float64)
    points = torch.cat([_along(wall) for wall in WALLS])
    assert float(_nearest_wall(*place)) == pytest.approx(float((points - place).norm(dim=1).min()), abs=0.02)
    still = torch.tensor(0.0, dtype=torch.float64)
    physics = MazePhysics(*place, torch.tensor(heading, dtype=torch.float64), still, still)
    for angle, found in zip((-90, -45, 0, 45, 90, -180), _ranges(physics, 100.0).tolist(), strict=True):
        way = math.radians(heading + angle)
        assert found == pytest.approx(_marched(x, y, way), abs=1e-6)


def _along(wall: tuple[tuple[float, float], tuple[float, float]]) -> torch.Tensor:
    first, last = torch.tensor(wall, dtype=torch.float64)
    return first + torch.linspace(0, 1, 20_000, dtype=torch.float64)[:, None] * (last - first)


def _marched(x: float, y: float, way: float) -> float:
    """The least distance at which the ray's line and a wall's, solved as two equations, meet within both."""
    least = 100.0
    for (ax, ay), (bx, by) in WALLS:
        matrix = torch.tensor([[math.cos(way), ax - bx], [math.sin(way), ay - by]], dtype=torch.float64)
        if abs(float(torch.linalg.det(matrix))) < 1e-12:
            continue
        t, s = torch.linalg.solve(matrix, torch.tensor([ax - x, ay - y], dtype=torch.float64)).tolist()
        if t >= 0 and 0 <= s <= 1:
            least = min(least, t)
    return least


def test_speed_and_turn_change_by_little_and_walls_stop() -> None:
    state, _ = MAZE.reset(Key.of(0), 1)
    forward = torch.tensor([[0.0, 1.0]])
    speeds, places = [], []
    for t in range(60):
        step = MAZE.step(state, forward, Key.of(t).split(1))
        state = step.state
        speeds.append(float(state.physics.speed))
        places.append(float(state.physics.x))
    assert speeds[:3] == pytest.approx([0.2, 0.4, 0.6], abs=1e-5)
    assert max(speeds) == pytest.approx(3.0)
    assert places[-1] == places[-20]  # it stands before the wall
    assert float(_nearest_wall(state.physics.x, state.physics.y)) >= MAZE.radius


def test_the_return_is_how_much_nearer_the_goal_came() -> None:
    state, _ = MAZE.reset(Key.of(0), 3)
    total = torch.zeros(3)
    for t in range(MAZE.max_steps):
        step = MAZE.step(state, Key.of(1).fold(t).uniform(3, 2, low=-1.0), Key.of(t).split(3))
        state, total = step.state, total + step.reward
    assert bool(step.truncated.all())
    assert not bool(step.terminated.any())
    away = torch.hypot(state.physics.x - 31, state.physics.y - 20)
    torch.testing.assert_close(total, math.hypot(5, 164) - away, rtol=1e-4, atol=1e-2)
    assert MAZE.behaviour(state.parameters, state.physics).tolist() == [
        [float(x), float(y)] for x, y in zip(state.physics.x, state.physics.y, strict=True)
    ]
