"""Levels made by hand, as one family: the baseline that GROOVE's curriculum replaces (paper, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from metaloop import Draw, Key, TaskFamily, tree
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.grid import GridObject, GridParameters, GridWorld
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad


class Handcrafted(TaskFamily[Worlds, dict[str, Any]]):
    """Each task is of one of a few families of grid worlds, all laid into one grid that has room for each.

    The default is the curriculum of LPG (Oh et al. 2020): five families, where objects lie is what varies in them.
    """

    members: tuple[str, ...] = Field(
        default=("dense", "sparse", "long", "longer", "long-dense"),
        min_length=1,
        description="families of grid worlds, by name",
    )

    @classmethod
    def example(cls) -> Self:
        """Two of them."""
        return cls(members=("small", "sparse"))

    @cached_property
    def worlds(self) -> tuple[GridWorld, ...]:
        """The members.

        Raises:
            UserError: there is none of a name.
        """
        return tuple(grid_family(name) for name in self.members)

    def model_post_init(self, context: Any) -> None:
        """Refuse names of no family.

        Raises:
            UserError: there is none of a name.
        """
        self.worlds  # noqa: B018

    @cached_property
    def env(self) -> GridWorld:
        """The grid that has room for every member."""
        width = max(world.width for world in self.worlds)
        return GridWorld(
            max_steps=max(world.max_steps for world in self.worlds),
            min_steps=min(world.min_steps for world in self.worlds),
            side=(width, width),
            objects=(GridObject(),) * max(len(world.objects) for world in self.worlds),
            view="index",
        )

    @property
    def spec(self) -> TensorControlSpec:
        """The common grid's."""
        return self.env.spec

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Worlds]:
        """Levels of families drawn uniformly; the tag is the family's position among the members."""
        keys = key.split(n)
        which = keys.fold("which").randint(0, len(self.worlds))
        levels = tree.stack([laid_into(self.env, world, world.draw(keys.fold("level"))) for world in self.worlds])
        rows = torch.arange(n, device=key.device)
        return Draw(Worlds(self.env, tree.index(levels, (which, rows))), which)

    def columns(self, tasks: Worlds) -> Mapping[str, Sequence[Any]]:
        """How long episodes are."""
        return {"steps": tasks.parameters.steps.tolist()}


def laid_into(large: GridWorld, small: GridWorld, level: GridParameters) -> GridParameters:
    """Levels of a small grid in the corner of a larger one, which is wall elsewhere and has objects that never are."""
    more = len(large.objects) - len(small.objects)

    def moved(cell: Tensor) -> Tensor:
        row = torch.div(cell, small.width, rounding_mode="floor")
        return row * large.width + cell % small.width

    walls = torch.ones(*level.walls.shape[:-1], large.cells, dtype=torch.bool, device=level.walls.device)
    walls[..., moved(torch.arange(small.cells, device=walls.device))] = level.walls
    return GridParameters(
        walls=walls,
        start=moved(level.start),
        cells=pad(moved(level.cells), (0, more)),
        exists=pad(level.exists, (0, more)),
        reward=pad(level.reward, (0, more)),
        terminate=pad(level.terminate, (0, more)),
        respawn=pad(level.respawn, (0, more)),
        steps=level.steps,
    )
