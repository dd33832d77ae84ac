"""Grid worlds with objects to collect: the family on which learned objectives are trained (Oh et al. 2020)."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from metaloop import Component, Key, UserError
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv
from metaloop_rl.envs.plan import Plan, read_plan

Span = tuple[float, float]
Count = tuple[int, int]
"""The least and the greatest value, both possible."""


class GridParameters(NamedTuple):
    """One level. Cells are numbered row by row over the largest grid, `cells` of them."""

    walls: Tensor
    """`[*batch, cell]` bool: cells that can't be entered, those outside a smaller grid included."""
    start: Tensor
    """`[*batch]` int64: the cell where episodes begin."""
    cells: Tensor
    """`[*batch, object]` int64: where the objects lie."""
    exists: Tensor
    """`[*batch, object]` bool: whether the level has the object at all."""
    reward: Tensor
    """`[*batch, object]`."""
    terminate: Tensor
    """`[*batch, object]`: probability that the episode ends when the object is collected."""
    respawn: Tensor
    """`[*batch, object]`: probability of each step that a collected object is there again."""
    steps: Tensor
    """`[*batch]` int64: steps until an episode is truncated."""


class GridPhysics(NamedTuple):
    """Where everything is."""

    agent: Tensor
    """`[*batch]` int64: its cell."""
    cells: Tensor
    """`[*batch, object]` int64."""
    present: Tensor
    """`[*batch, object]` bool: whether the object is there now."""


class GridObject(Component):
    """What an object of a level may be like."""

    reward: Span = Field(default=(-1.0, 1.0), description="reward for collecting it, uniform")
    terminate: Span = Field(default=(0.01, 1.0), description="probability to end the episode, log-uniform")
    respawn: Span = Field(default=(0.001, 0.1), description="probability of each step to come back, log-uniform")

    @classmethod
    def example(cls) -> GridObject:
        """A prize that sometimes ends the episode."""
        return cls(reward=(1.0, 1.0), terminate=(0.1, 0.1), respawn=(0.01, 0.5))

    def model_post_init(self, context: Any) -> None:
        """Refuse ranges from which nothing can be drawn.

        Raises:
            UserError: a range is upside down, or one of a probability leaves (0, 1].
        """
        for name in ("reward", "terminate", "respawn"):
            low, high = getattr(self, name)
            _refuse_upside_down(f"GridObject.{name}", low, high)
            if name != "reward" and (low < 0 or high > 1 or (low == 0 < high)):
                raise UserError(
                    f"GridObject.{name}: [{low:g}, {high:g}] is no range of probabilities on a log scale: "
                    "both ends in (0, 1], or the same number twice"
                )


def _refuse_upside_down(name: str, low: float, high: float) -> None:
    if low > high:
        raise UserError(f"{name}: {low:g} is above {high:g}")


_FIRST = GridObject(reward=(0.0, 1.0))


class GridWorld(TensorEnv[GridPhysics, GridParameters]):
    """An agent walks among walls and collects objects by standing where they lie; every level is another.

    An object pays its reward, ends the episode with its probability, and is gone until it comes back. The defaults are
    the small levels of GROOVE (Jackson et al. 2023).
    """

    parameters_type: ClassVar[type[Any]] = GridParameters

    max_steps: int = Field(default=100, ge=1, description="greatest length of an episode")
    min_steps: int = Field(default=20, ge=1, description="least; a level's is log-uniform")
    side: Count = Field(default=(4, 6), description="rows, and columns, of a level's grid")
    walls: int = Field(default=7, ge=0, description="walls, anywhere in the largest grid: a smaller one gets fewer")
    objects: tuple[GridObject, ...] = Field(
        default=(_FIRST, GridObject(), GridObject()), min_length=1, description="objects that a level may have"
    )
    least: int = Field(default=1, ge=0, description="a level has the first few of them, at least so many")
    plan: tuple[str, ...] = Field(
        default=(),
        description="a map instead of side and walls: rows of # (wall), . (free), A (the agent's start), 1 to 9 (where "
        "that object lies); what it does not place lies anywhere free",
    )
    random_start: bool = Field(default=False, description="every episode begins in another cell")
    random_objects: bool = Field(
        default=False, description="objects lie elsewhere whenever they come; needs view: image"
    )
    view: Literal["one-hot", "index", "image"] = Field(
        default="one-hot", description="the state's number as a vector, or as it is, or planes of the grid"
    )

    @classmethod
    def example(cls) -> GridWorld:
        """Two objects in a grid of three or four cells a side."""
        return cls(max_steps=10, min_steps=5, side=(3, 4), walls=3, objects=(_FIRST, GridObject()))

    def model_post_init(self, context: Any) -> None:
        """Refuse levels that can't be.

        Raises:
            UserError: a range is upside down, the grid too small, the map wrong, or the view can't show the levels.
        """
        _refuse_upside_down("GridWorld: min_steps and max_steps", self.min_steps, self.max_steps)
        if self.random_objects and self.view != "image":
            raise UserError(
                "GridWorld.random_objects needs view: image, a state's number does not say where things lie"
            )
        _refuse_upside_down("GridWorld.side", *self.side)
        if self.least > len(self.objects):
            raise UserError(f"GridWorld.least: {self.least} of {len(self.objects)} objects can't be there")
        if self.plan:
            read_plan(self.plan, len(self.objects))
            return
        if self.side[0] ** 2 <= len(self.objects):
            raise UserError(
                f"GridWorld.side: {self.side[0]}x{self.side[0]} cells have no room for the agent and "
                f"{len(self.objects)} objects"
            )
        most = self.side[1] * self.side[1]
        if self.walls > most:
            raise UserError(f"GridWorld.walls: {self.walls} is more than the {most} cells of the largest grid")

    @cached_property
    def drawn(self) -> Plan | None:
        """What the map says, where there is one."""
        return read_plan(self.plan, len(self.objects)) if self.plan else None

    @property
    def width(self) -> int:
        """Cells along a side of the largest grid, or of the square around the map."""
        return self.drawn.width if self.drawn else self.side[1]

    @property
    def cells(self) -> int:
        """Cells of the largest grid."""
        return self.width * self.width

    @property
    def state_count(self) -> int:
        """Where the agent is, times which objects are there."""
        return self.cells << len(self.objects)

    @property
    def states(self) -> int | None:
        """How many states there are, for the view of the state's number as it is."""
        return self.state_count if self.view == "index" else None

    @property
    def observation(self) -> tuple[int, ...]:
        """As the view says; an image has planes for walls, the agent and each object."""
        shapes = {
            "one-hot": (self.state_count,),
            "index": (),
            "image": (2 + len(self.objects), self.width, self.width),
        }
        return shapes[self.view]

    @property
    def actions(self) -> int:
        """Up, down, left, right, stay."""
        return 5

    def time_limit(self, parameters: GridParameters) -> Tensor:
        """The level's own."""
        return parameters.steps

    def draw(self, key: Key) -> GridParameters:
        """A level: start and objects in different free cells."""
        walls, inside = self._ground(key)
        known = self.drawn.places if self.drawn else (-1,) * (1 + len(self.objects))
        fixed = torch.tensor(known, device=key.device)
        marked = (torch.arange(self.cells, device=key.device)[:, None] == fixed).any(-1)  # [cell]
        free = _places(key.fold("places"), walls | marked, inside, max(1, known.count(-1)))
        slots = [max(0, known[: i + 1].count(-1) - 1) for i in range(len(known))]
        places = torch.where(fixed < 0, free[..., slots], fixed)
        walls = walls.scatter(-1, places, False)  # where walls leave too little room, they give way
        count = key.fold("count").randint(self.least, len(self.objects) + 1)
        low, high = math.log(self.min_steps), math.log(self.max_steps)
        return GridParameters(
            walls=walls,
            start=places[..., 0],
            cells=places[..., 1:],
            exists=torch.arange(len(self.objects), device=key.device) < count[..., None],
            reward=self._each(key, "reward"),
            terminate=self._each(key, "terminate"),
            respawn=self._each(key, "respawn"),
            steps=(low + (high - low) * key.fold("steps").uniform()).exp().round().to(torch.int64),
        )

    def _ground(self, key: Key) -> tuple[Tensor, Tensor]:
        """Walls, and which cells a level's grid has at all: `[*batch, cell]` bool each."""
        if self.drawn:
            walls = torch.tensor(self.drawn.walls, device=key.device).expand(*key.shape, -1)
            return walls, ~walls
        side = key.fold("side").randint(self.side[0], self.side[1] + 1)[..., None]
        row, column = self._rows_and_columns(torch.arange(self.cells, device=key.device))
        inside = (row < side) & (column < side)
        chosen = key.fold("walls").permutation(self.cells)[..., : self.walls]
        return ~inside | torch.zeros_like(inside).scatter(-1, chosen, True), inside

    def _each(self, key: Key, name: Literal["reward", "terminate", "respawn"]) -> Tensor:
        """A property of each object, `[*batch, object]`: rewards are uniform, probabilities log-uniform."""
        unit = key.fold(name).uniform(len(self.objects))
        ranges = torch.tensor([getattr(each, name) for each in self.objects], dtype=unit.dtype, device=key.device)
        low, high = ranges.unbind(-1)
        if name == "reward":
            return low + (high - low) * unit
        return torch.where(low < high, low * (high / low) ** unit, low)

    def start(self, parameters: GridParameters, key: Key) -> GridPhysics:
        """All the level's objects are there."""
        agent, cells = parameters.start, parameters.cells
        if self.random_objects:
            places = _places(key.fold("objects"), parameters.walls, ~parameters.walls, 1 + cells.shape[-1])
            agent, cells = (places[..., 0] if self.random_start else agent), places[..., 1:]
            cells = torch.where(cells == agent[..., None], places[..., :1], cells)
        elif self.random_start:
            taken = parameters.walls.scatter(-1, cells, True)
            agent = _places(key.fold("agent"), taken, ~parameters.walls, 1)[..., 0]
        return GridPhysics(agent, cells, parameters.exists)

    def advance(
        self, parameters: GridParameters, physics: GridPhysics, action: Tensor, key: Key
    ) -> tuple[GridPhysics, Tensor, Tensor]:
        """Walk, collect, and see what comes back; what was just collected is away for a step at least."""
        p, agent = parameters, self.walk(parameters.walls, physics.agent, action)
        found = physics.present & (physics.cells == agent[..., None])  # [*batch, object]
        reward = torch.where(found, p.reward, 0.0).sum(-1)
        chance = torch.where(found, p.terminate, 0.0).sum(-1)
        drawn = key.uniform(1 + p.respawn.shape[-1], dtype=p.respawn.dtype)
        back = p.exists & ~physics.present & (drawn[..., 1:] < p.respawn)
        cells = physics.cells
        if self.random_objects:
            taken = p.walls.scatter(-1, cells, True).scatter(-1, agent[..., None], True)
            cells = torch.where(back, _places(key.fold("cells"), taken, ~p.walls, cells.shape[-1]), cells)
        new = GridPhysics(agent, cells, (physics.present | back) & ~found)
        return new, reward, drawn[..., 0] < chance

    def walk(self, walls: Tensor, agent: Tensor, action: Tensor) -> Tensor:
        """The cell `[*batch]` that an action leads to: the same where a wall or the border is in the way."""
        side = self.width
        row, column = self._rows_and_columns(agent)
        row = (row + (action == 1).to(agent.dtype) - (action == 0).to(agent.dtype)).clamp(0, side - 1)
        column = (column + (action == 3).to(agent.dtype) - (action == 2).to(agent.dtype)).clamp(0, side - 1)
        target = row * side + column
        return torch.where(walls.gather(-1, target[..., None])[..., 0], agent, target)

    def _rows_and_columns(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        row = cell // self.width
        return row, cell - row * self.width

    def index(self, physics: GridPhysics) -> Tensor:
        """The number of a state, `[*batch]` int64, below `state_count`: the agent's cell, then one bit per object."""
        place = self.cells << torch.arange(physics.present.shape[-1], device=physics.agent.device)
        return physics.agent + (physics.present * place).sum(-1)

    def observe(self, parameters: GridParameters, physics: GridPhysics) -> Tensor:
        """As the view says."""
        if self.view == "index":
            return self.index(physics)
        dtype = parameters.reward.dtype
        if self.view == "one-hot":
            numbers = torch.arange(self.state_count, device=physics.agent.device)
            return (self.index(physics)[..., None] == numbers).to(dtype)
        cell = torch.arange(self.cells, device=physics.agent.device)
        agent = physics.agent[..., None] == cell
        objects = (physics.cells[..., None] == cell) & physics.present[..., None]  # [*batch, object, cell]
        planes = torch.cat([torch.stack([parameters.walls, agent], dim=-2), objects], dim=-2)
        return planes.to(dtype).reshape(*planes.shape[:-1], self.width, self.width)


def _places(key: Key, taken: Tensor, inside: Tensor, n: int) -> Tensor:
    """`n` different cells `[*batch, n]` at random: free ones, then taken ones inside the grid where those run out."""
    rank = (inside & ~taken).to(torch.int64) + inside.to(torch.int64)
    scores = (key.bits(taken.shape[-1]) & ((1 << 60) - 1)) + (rank << 60)
    return scores.topk(n, dim=-1).indices
