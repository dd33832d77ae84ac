"""Levels that no rule was trained on, and what rules reach there on the scale of A2C's returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from metaloop import Key, UserError, tree
from metaloop.learner import AnyLearner
from metaloop.tasks import AnyTaskFamily
from metaloop_rl.tasks import Worlds
from torch import Tensor

from metaloop_groove.a2c import A2C

GAP = 0.2
"""Levels on which A2C is less than this above the random agent tell nothing of a learner, and are left out."""
BAR = 0.75
"""Share of A2C's return below which the paper counts a level as lost."""
_TRIES = 20


class HeldOut(NamedTuple):
    """Levels with their scale."""

    levels: Worlds
    """`[level]`."""
    a2c: Tensor
    """`[level]`: mean return of A2C after its life."""
    random: Tensor
    """`[level]`: of the random agent."""

    def normalised(self, returns: Tensor) -> Tensor:
        """Returns `[level]` as shares: 0 is the random agent, 1 A2C."""
        return (returns - self.random) / (self.a2c - self.random)


def held_out(family: AnyTaskFamily, n: int, a2c: A2C, key: Key) -> HeldOut:
    """The first `n` levels of a family on which A2C is `GAP` above the random agent.

    Whether a level is kept depends on these two alone.

    Raises:
        UserError: A2C is hardly ever above the random agent.
    """
    kept: list[HeldOut] = []
    for i in range(_TRIES):
        own = key.fold("held out", i)
        tasks = family.sample(family.begin(own), n, own).tasks
        with torch.no_grad():
            keys = own.fold("a2c").split(n)
            known, guessed = (agent.live({}, tasks, keys)[0].fitness for agent in (a2c, a2c.but(steps=0)))
        rows = (known - guessed > GAP).nonzero()[:, 0]
        kept.append(tree.index(HeldOut(tasks, known, guessed), rows))
        if sum(len(part.a2c) for part in kept) >= n:
            return tree.index(tree.concatenate(kept), slice(n))
    raise UserError(
        f"A2C is {GAP:g} above the random agent on {sum(len(part.a2c) for part in kept)} of {_TRIES * n} levels, and "
        f"{n} are needed to judge on: give it more updates or workers"
    )


def returns(learner: AnyLearner, theta: object, levels: Worlds, key: Key) -> Tensor:
    """What a rule's agents end with on each level, `[level]`: its learner's fitness after whole lives."""
    n = tree.length(levels)
    with torch.no_grad():
        return learner.outcomes(theta, levels, key.split(n)).fitness
