"""The hard maze (Lehman & Stanley 2011): a robot whose straight way to the goal is a dead end."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from metaloop_rl.envs.env import TensorEnv
from pydantic import Field
from torch import Tensor

WALLS = (
    ((41.0, 5.0), (3.0, 8.0)),
    ((3.0, 8.0), (4.0, 49.0)),
    ((4.0, 49.0), (57.0, 53.0)),
    ((4.0, 49.0), (7.0, 202.0)),
    ((7.0, 202.0), (195.0, 198.0)),
    ((195.0, 198.0), (186.0, 8.0)),
    ((186.0, 8.0), (39.0, 5.0)),
    ((56.0, 54.0), (56.0, 157.0)),
    ((57.0, 106.0), (158.0, 162.0)),
    ((77.0, 201.0), (108.0, 164.0)),
    ((6.0, 80.0), (33.0, 121.0)),
    ((192.0, 146.0), (87.0, 91.0)),
    ((56.0, 55.0), (133.0, 30.0)),
)
"""Ends of each wall."""
SUCCESS = 10.0
"""The goal is reached from this distance."""

_FIRST, _LAST = torch.tensor(WALLS, dtype=torch.float64).unbind(1)
_ALONG = _LAST - _FIRST
_PER_SQUARE = _ALONG / _ALONG.square().sum(1, keepdim=True)
_WALLS = torch.cat([_FIRST, _ALONG, _PER_SQUARE], dim=1).T
_RAYS = torch.tensor([-90.0, -45.0, 0.0, 45.0, 90.0, -180.0], dtype=torch.float64)


class MazeParameters(NamedTuple):
    """What may vary, `[*batch]` each."""

    start_x: Tensor
    start_y: Tensor
    heading: Tensor
    goal_x: Tensor
    goal_y: Tensor


class MazePhysics(NamedTuple):
    """Where the robot is and how it moves, `[*batch]` each."""

    x: Tensor
    y: Tensor
    heading: Tensor
    """Degrees."""
    speed: Tensor
    turn: Tensor
    """Degrees a step."""


class HardMaze(TensorEnv[MazePhysics, MazeParameters]):
    """A round robot with six rangefinders and a compass of four quarters; nothing in it is random.

    Its two actions in [-1, 1] ask for a turn of up to 3 degrees a step and a speed of up to 3; each follows by at most
    0.2 a step. A move that would come nearer to a wall than the robot's radius does not happen. The reward of a step
    is how much nearer it came to the goal, so the return is the distance at the start (164.1) less that at the end.
    """

    parameters_type: ClassVar[type[Any]] = MazeParameters
    discrete: ClassVar[bool] = False

    max_steps: int = Field(default=400, ge=1, description="steps of an episode")
    start_x: float = Field(default=36.0, description="where the robot starts")
    start_y: float = Field(default=184.0, description="where the robot starts")
    heading: float = Field(default=0.0, description="where it looks at first, degrees")
    goal_x: float = Field(default=31.0, description="where the goal is")
    goal_y: float = Field(default=20.0, description="where the goal is")

    radius: ClassVar[float] = 8.0
    reach: ClassVar[float] = 100.0
    """How far rangefinders see."""
    limit: ClassVar[float] = 3.0
    """Greatest turn, degrees a step, and greatest speed."""
    change: ClassVar[float] = 0.2
    """By how much turn and speed change in a step at most."""

    @property
    def observation(self) -> tuple[int, ...]:
        """One, six distances over 100, and in which quarter the goal lies: ahead, left, behind, right."""
        return (11,)

    @property
    def actions(self) -> int:
        """Turn, speed."""
        return 2

    def start(self, parameters: MazeParameters, key: Key) -> MazePhysics:
        """At the start, at rest."""
        still = torch.zeros_like(parameters.start_x)
        return MazePhysics(parameters.start_x, parameters.start_y, parameters.heading, still, still)

    def advance(
        self, parameters: MazeParameters, physics: MazePhysics, action: Tensor, key: Key
    ) -> tuple[MazePhysics, Tensor, Tensor]:
        """One step; it never ends the episode."""
        asked_turn, asked_speed = (self.limit * action).unbind(-1)
        turn = physics.turn + (asked_turn - physics.turn).clamp(-self.change, self.change)
        speed = physics.speed + (asked_speed - physics.speed).clamp(-self.change, self.change)
        heading = (physics.heading + turn) % 360.0
        angle = heading * (math.pi / 180.0)
        x, y = physics.x + speed * angle.cos(), physics.y + speed * angle.sin()
        free = _nearest_wall(x, y) >= self.radius
        new = MazePhysics(torch.where(free, x, physics.x), torch.where(free, y, physics.y), heading, speed, turn)
        reward = distance(parameters, physics) - distance(parameters, new)
        return new, reward, torch.zeros_like(free)

    def observe(self, parameters: MazeParameters, physics: MazePhysics) -> Tensor:
        """`[*batch, 11]`."""
        ranges = _ranges(physics, self.reach) / self.reach
        bearing = torch.atan2(parameters.goal_y - physics.y, parameters.goal_x - physics.x) * (180.0 / math.pi)
        quarter = ((bearing - physics.heading + 45.0) % 360.0).div(90.0).floor() % 4.0
        seen = quarter.unsqueeze(-1) == torch.arange(4, device=quarter.device)
        return torch.cat([torch.ones_like(ranges[..., :1]), ranges, seen.to(ranges.dtype)], dim=-1)

    def behaviour(self, parameters: MazeParameters, physics: MazePhysics) -> Tensor:
        """Where the robot is, `[*batch, 2]`."""
        return torch.stack([physics.x, physics.y], dim=-1)


def distance(parameters: MazeParameters, physics: MazePhysics) -> Tensor:
    """From robot to goal, `[*batch]`."""
    return torch.hypot(parameters.goal_x - physics.x, parameters.goal_y - physics.y)


def _walls(like: Tensor) -> tuple[Tensor, ...]:
    """First ends of all walls, their directions, those over their squared lengths: x and y apart, `[wall]` each."""
    return _WALLS.to(like).unbind()


def _nearest_wall(x: Tensor, y: Tensor) -> Tensor:
    """Distance from points `[*batch]` to the nearest wall."""
    ax, ay, ex, ey, fx, fy = _walls(x)
    px, py = x.unsqueeze(-1) - ax, y.unsqueeze(-1) - ay  # [*batch, wall]
    along = (px * fx + py * fy).clamp(0.0, 1.0)
    away = (px - along * ex).square() + (py - along * ey).square()
    return away.amin(-1).sqrt()


def _ranges(physics: MazePhysics, reach: float) -> Tensor:
    """How far each ray goes until it meets a wall, `[*batch, ray]`, at most `reach`.

    A ray from p along d meets a wall from a along e where p + t d = a + s e, so t = (a - p) x e / (d x e) and
    s = (a - p) x d / (d x e); it is met for t >= 0 and s in [0, 1].
    """
    x = physics.x
    ax, ay, ex, ey, *_ = _walls(x)
    angles = (physics.heading.unsqueeze(-1) + _RAYS.to(x)) * (math.pi / 180.0)
    dx, dy = angles.cos().unsqueeze(-1), angles.sin().unsqueeze(-1)  # [*batch, ray, 1]
    wx, wy = ax - x.unsqueeze(-1), ay - physics.y.unsqueeze(-1)  # [*batch, wall]
    across = (wx * ey - wy * ex).unsqueeze(-2)  # [*batch, 1, wall]
    turned = dx * ey - dy * ex  # [*batch, ray, wall]
    s = (wx.unsqueeze(-2) * dy - wy.unsqueeze(-2) * dx) / turned
    t = across / turned
    met = (t >= 0.0) & ((s - 0.5).abs() <= 0.5)
    return torch.where(met, t, reach).amin(-1).clamp(max=reach)
