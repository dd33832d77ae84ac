"""Tensor environments for libraries that expect Gymnasium's.

How seeds become keys: `reset(seed=s)` begins the stream `Key.of(s)`. Its episode `e` (0, 1, ...) starts from
`.fold("episode", e)`, and that episode's step `t` (0, 1, ...) draws from `.fold("episode", e, "step", t)`. What the
environment is made of, where nothing is given, is drawn from `.fold("parameters")`: a seed names a world, and
`reset()` without one begins another episode in it. Row `i` of a vector environment has the seed `s + i`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from metaloop import Key, tree
from torch import Tensor

from metaloop_rl.envs.env import EnvState, Step, TensorEnv

Array = np.ndarray[Any, Any]
AnyEnv = TensorEnv[Any, Any]


def observation_space(env: AnyEnv) -> spaces.Space[Any]:
    """What is seen: float32 without bounds, or a state's number."""
    if env.states is not None:
        return spaces.Discrete(env.states)
    return spaces.Box(-np.inf, np.inf, env.observation, np.float32)


def action_space(env: AnyEnv) -> spaces.Space[Any]:
    """What can be done: a number, or a vector in [-1, 1]."""
    return spaces.Discrete(env.actions) if env.discrete else spaces.Box(-1.0, 1.0, (env.actions,), np.float32)


class _Rows:
    """Episodes in some rows of one environment, each with a key of its own."""

    def __init__(self, env: AnyEnv, n: int, parameters: Any, device: torch.device | str) -> None:
        self.env, self.given, self.device = env, parameters, torch.device(device)
        self.all = torch.arange(n, device=device)
        self.roots = Key(torch.zeros_like(self.all))
        self.episode = torch.zeros_like(self.all)
        self.state: EnvState | None = None

    @torch.no_grad()
    def seed(self, rows: Tensor, seeds: Sequence[int]) -> None:
        """Begin new streams, in worlds of their own, in some rows `[r]`; the first time in all."""
        fresh = torch.stack([Key.of(seed, self.device).data for seed in seeds])
        self.roots = Key(self.roots.data.index_copy(0, rows, fresh))
        self.episode = self.episode.index_fill(0, rows, 0)
        worlds = self.env.draw(Key(fresh).fold("parameters")) if self.given is None else tree.index(self.given, rows)
        self._start(rows, worlds)

    @torch.no_grad()
    def again(self, rows: Tensor) -> None:
        """Begin the next episode in some rows `[r]`, in the world that they have."""
        assert self.state is not None
        self.episode = self.episode.index_add(0, rows, torch.ones_like(rows))
        self._start(rows, tree.index(self.state.parameters, rows))

    def _start(self, rows: Tensor, worlds: Any) -> None:
        fresh, _ = self.env.restart(worlds, self.roots[rows].fold("episode", self.episode[rows]))
        self.state = fresh if self.state is None else tree.put(self.state, rows, fresh)

    @torch.no_grad()
    def step(self, action: Array) -> Step:
        """One step in all rows.

        Raises:
            gymnasium.error.ResetNeeded: no episode was begun.
        """
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        given = torch.as_tensor(action, device=self.device)
        keys = self.roots.fold("episode", self.episode, "step", self.state.time)
        step = self.env.step(self.state, given.long() if self.env.discrete else given, keys)
        self.state = step.state
        return step

    @torch.no_grad()
    def seen(self) -> Array:
        """What is seen now, `[n, *observation]`."""
        assert self.state is not None
        return self.array(self.env.observe(self.state.parameters, self.state.physics))

    def array(self, seen: Tensor) -> Array:
        """What is seen, as Gymnasium has it; shared with nobody."""
        found: Array = seen.cpu().numpy().astype(np.float32 if self.env.states is None else np.int64, copy=True)
        return found


class GymnasiumEnv(gymnasium.Env[Any, Any]):
    """A tensor environment as `gymnasium.Env`; it truncates episodes itself, at its own time limit."""

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(self, env: AnyEnv, parameters: Any = None, device: torch.device | str = "cpu") -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            parameters: what it is made of, tensors without a leading axis; drawn for each seed where None.
            device: where tensors live.
        """
        self.env = env
        self.observation_space, self.action_space = observation_space(env), action_space(env)
        self._rows = _Rows(env, 1, tree.map_tensors(lambda leaf: leaf[None], parameters), device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; with a seed, the first one of its stream. Options are ignored."""
        super().reset(seed=seed)
        if seed is None and self._rows.state is not None:
            self._rows.again(self._rows.all)
        else:
            self._rows.seed(self._rows.all, [self.np_random_seed])
        return self._rows.seen()[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step.

        Raises:
            gymnasium.error.ResetNeeded: no episode was begun.
        """
        step = self._rows.step(np.asarray(action)[None])
        seen = self._rows.array(step.observation)[0]
        return seen, float(step.reward), bool(step.terminated), bool(step.truncated), {}


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Many copies of a tensor environment as `gymnasium.vector.VectorEnv`, stepped as one batch.

    It gives what `SyncVectorEnv` gives for as many `GymnasiumEnv`, in each of its autoreset modes.
    """

    def __init__(
        self,
        env: AnyEnv,
        num_envs: int,
        parameters: Any = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        device: torch.device | str = "cpu",
    ) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            num_envs: how many copies.
            parameters: what they are made of, tensors `[num_envs, ...]`; drawn for each seed where None.
            autoreset_mode: what comes after an episode's last step; Gymnasium's three modes.
            device: where tensors live.
        """
        self.env, self.num_envs = env, num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = observation_space(env), action_space(env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rows = _Rows(env, num_envs, parameters, device)
        self._over: Array = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode in each row, or in those of `options["reset_mask"]` (`[num_envs]` bool).

        Args:
            seed: None for another episode of the streams in progress, the first row's seed, or one for each row.
            options: only `reset_mask` is looked at.

        Raises:
            ValueError: not as many seeds, or rows in the mask, as copies.
            gymnasium.error.ResetNeeded: a mask leaves out rows that never began.
        """
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed or [None] * self.num_envs
        mask: Array = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        if len(seeds) != self.num_envs or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"reset needs one seed, and one bool in reset_mask, for each of {self.num_envs} copies")
        first = self._rows.state is None
        if first and not mask.all():
            raise gymnasium.error.ResetNeeded("reset all copies before some of them")
        new = {
            i: seeding.np_random()[1] if given is None else given
            for i, given in enumerate(seeds)
            if mask[i] and (first or given is not None)
        }
        if new:
            self._rows.seed(self._rows.all[list(new)], list(new.values()))
        on = mask & ~np.isin(np.arange(self.num_envs), list(new))
        self._again(on)
        self._over = self._over & ~mask
        return self._rows.seen(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of all copies.

        Raises:
            gymnasium.error.ResetNeeded: a copy's episode is over and nothing resets it, or none was begun.
        """
        same, following = (self.autoreset_mode is mode for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP))
        over = self._over
        if over.any() and not following:
            raise gymnasium.error.ResetNeeded("an episode is over: reset its copy before the next step")
        step = self._rows.step(np.asarray(actions))
        reward, terminated, truncated = (
            part.cpu().numpy().copy() for part in (step.reward.double(), step.terminated, step.truncated)
        )
        for part in (reward, terminated, truncated):
            part[over] = 0
        self._again(over)
        done, infos = terminated | truncated, {}
        if same and done.any():
            infos = self._final(self._rows.array(step.observation), done)
            self._again(done)
        self._over = np.zeros_like(done) if same else done
        return self._rows.seen(), reward, terminated, truncated, infos

    def _again(self, mask: Array) -> None:
        if mask.any():
            self._rows.again(self._rows.all[torch.from_numpy(mask).to(self._rows.device)])

    def _final(self, seen: Array, done: Array) -> dict[str, Any]:
        """What Gymnasium tells of episodes that ended in this step, in its own form."""
        final = np.full(self.num_envs, None, dtype=object)
        for i in done.nonzero()[0]:
            final[i] = seen[i]
        return {"final_obs": final, "_final_obs": done.copy(), "final_info": {}, "_final_info": done.copy()}
