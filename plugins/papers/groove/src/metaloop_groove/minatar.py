"""MinAtar's games (Young & Tian 2019), live in Python and acted in like tensor environments: to judge rules in."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from metaloop import Key
from metaloop_rl.envs.env import Step, TensorEnv
from metaloop_rl.gym import GymCopies, open_env, spec_of
from metaloop_rl.specs import GymControlSpec
from metaloop_rl.tasks import GymTask, Worlds
from pydantic import Field
from torch import Tensor


class Seats(NamedTuple):
    """There is nothing that differs from game to game but its random numbers."""

    number: Tensor
    """`[task]`."""


class Playing(NamedTuple):
    """Games under way."""

    copies: GymCopies
    time: Tensor
    """`[task, n]` int64: steps since the episode began."""


class MinAtar(TensorEnv[Any, Seats]):
    """A game of the package `minatar`, its copies stepped one after the other in Python.

    It is no function: a state is the running games themselves, changed by each step. So agents can live in it, as in
    other tensor environments, but not under `vmap`, and states can't be kept.
    """

    parameters_type: ClassVar[type[Any]] = Seats

    game: str = Field(default="Breakout", description="Breakout, Asterix, Freeway, Seaquest or SpaceInvaders")
    max_steps: int = Field(default=1000, ge=1, description="steps of an episode that is judged; training has no limit")

    @property
    def task(self) -> GymTask:
        """The game as Gymnasium knows it, with the actions that have an effect."""
        options: dict[str, Any] = {"disable_env_checker": True}
        return GymTask(id=f"MinAtar/{self.game}-v1", options=options, wrappers=[], settings={})

    @cached_property
    def opened(self) -> GymControlSpec:
        """What the game says of itself.

        Raises:
            UserError: the package is not installed, or there is no such game.
        """
        env = open_env(self.task)
        try:
            return spec_of(env)
        finally:
            env.close()

    @property
    def observation(self) -> tuple[int, ...]:
        """10 x 10 cells, a plane for each kind of thing."""
        return self.opened.observation

    @property
    def actions(self) -> int:
        """Those that have an effect."""
        return self.opened.actions

    def worlds(self, n: int) -> Worlds:
        """The same game for `n` agents."""
        return Worlds(self, Seats(torch.arange(n)))

    def reset(self, key: Key, n: int, parameters: Seats | None = None) -> tuple[Any, Tensor]:
        """Begin `n` games for each key `[task]`: the games, and what is seen `[task, n, *observation]`."""
        tasks = len(key)
        copies = GymCopies(self.task, tasks * n)
        seen = copies.reset(key[0])
        time = torch.zeros(tasks, n, dtype=torch.int64, device=key.device)
        return Playing(copies, time), seen.reshape(tasks, n, *seen.shape[1:])

    def step(self, state: Any, action: Tensor, key: Key) -> Step:
        """One step of all games `[task, n]`; those that are over stay so and pay nothing."""
        step = self._stepped(state, action, key, reset=False)
        return step._replace(truncated=step.state.time >= self.max_steps)

    def step_and_reset(self, state: Any, action: Tensor, key: Key) -> Step:
        """One step; games that are over begin anew."""
        step = self._stepped(state, action, key, reset=True)
        return step._replace(state=step.state._replace(time=torch.where(step.done, 0, step.state.time)))

    def _stepped(self, state: Playing, action: Tensor, key: Key, reset: bool) -> Step:
        shape = action.shape
        step = state.copies.step(action.flatten(), Key(key.data.flatten()[0]), reset=reset)
        parts = (part.reshape(*shape, *part.shape[1:]) for part in step[1:])
        return Step(state._replace(time=state.time + 1), *parts)
