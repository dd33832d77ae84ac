"""Gymnasium's environments as one more kind of world: opened from a plain description, many copies side by side."""

from __future__ import annotations

from functools import reduce
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from metaloop import Key, UserError
from torch import Tensor

from metaloop_rl.envs.env import Step
from metaloop_rl.specs import GymControlSpec
from metaloop_rl.tasks import GymTask

Env = gymnasium.Env[Any, Any]


def open_env(task: GymTask) -> Env:
    """The environment that a task describes, with observations of one array.

    Raises:
        UserError: Gymnasium can't make it, a wrapper is unknown or does not fit, or an attribute to set is not there.
    """
    _register(task["id"])
    try:
        env: Env = gymnasium.make(task["id"], **task["options"])
    except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
        raise UserError(f"Gymnasium can't make {task['id']!r}: {_first_line(error)}") from error
    if task["id"].startswith(_MINATAR):
        env = _MinAtar(env)
    for name, options in task["wrappers"]:
        wrapper = getattr(gymnasium.wrappers, name, None)
        if wrapper is None:
            raise UserError(f"gymnasium.wrappers has no {name!r}")
        try:
            env = wrapper(env, **options)
        except (gymnasium.error.Error, TypeError, ValueError, AssertionError, ModuleNotFoundError) as error:
            raise UserError(f"gymnasium.wrappers.{name} does not fit {task['id']!r}: {_first_line(error)}") from error
    for path, value in task["settings"].items():
        _set(env.unwrapped, path, value, task["id"])
    if not isinstance(env.observation_space, spaces.Box):
        env = gymnasium.wrappers.FlattenObservation(env)
    return env


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _register(name: str) -> None:
    """Packages that add ids when asked."""
    if name.startswith("ALE/"):
        try:
            import ale_py
        except ModuleNotFoundError:
            raise UserError(f"{name} needs ale-py: pip install 'metaloop-rl[atari]'") from None
        gymnasium.register_envs(ale_py)
    if name.startswith(_MINATAR) and not any(known.startswith(_MINATAR) for known in gymnasium.registry):
        try:
            import minatar.gym
        except ModuleNotFoundError:
            raise UserError(f"{name} needs minatar: pip install minatar") from None
        minatar.gym.register_envs()


_MINATAR = "MinAtar/"


class _MinAtar(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Its generator takes seeds of 32 bits, and the action that may stick outlives an episode."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.unwrapped.game.last_action = 0  # type: ignore[attr-defined]
        return self.env.reset(seed=None if seed is None else seed % 2**32, options=options)


def _set(owner: Any, path: str, value: float, name: str) -> None:
    *parents, last = path.split(".")
    try:
        owner = reduce(_part, parents, owner)
        _part(owner, last)
        if isinstance(owner, np.ndarray):
            owner[int(last)] = value
        else:
            setattr(owner, last, value)
    except (AttributeError, IndexError, ValueError) as error:
        raise UserError(f"{name} has no attribute {path!r} to vary ({error})") from None


def _part(owner: Any, name: str) -> Any:
    return owner[int(name)] if isinstance(owner, np.ndarray) else getattr(owner, name)


def spec_of(env: Env) -> GymControlSpec:
    """What an environment's spaces say.

    Raises:
        UserError: actions are neither `Discrete` nor a flat, bounded `Box`.
    """
    space, seen = env.action_space, env.observation_space
    assert seen.shape is not None
    horizon = env.spec.max_episode_steps if env.spec is not None else None
    if isinstance(space, spaces.Discrete):
        return GymControlSpec(observation=seen.shape, actions=int(space.n), discrete=True, horizon=horizon)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.is_bounded():
        return GymControlSpec(observation=seen.shape, actions=space.shape[0], discrete=False, horizon=horizon)
    raise UserError(f"actions must be Discrete or a bounded Box of one axis, not {space}")


class GymCopies:
    """`n` copies of a Gymnasium environment, stepped one after the other; a live object.

    Processes per copy (Gymnasium's AsyncVectorEnv) are slower for cheap environments. A checkpoint holds the seed and
    the actions of each copy's running episode: they are played again when it is loaded, which gives the same state
    where the environment is deterministic under a seed, as Gymnasium's are.
    """

    def __init__(self, task: GymTask, n: int) -> None:
        """Open the copies; `reset` begins their episodes."""
        self._envs = [open_env(task) for _ in range(n)]
        self.spec = spec_of(self._envs[0])
        self._seeds = [0] * n
        self._actions: list[list[Any]] = [[] for _ in range(n)]

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, key: Key) -> Tensor:
        """Begin an episode in each copy: what is seen, `[n, *observation]`."""
        return self._tensor([self._begin(i, key.fold(i).seed()) for i in range(len(self))], key)

    def step(self, action: Tensor, key: Key, *, reset: bool = True) -> Step:
        """One step of each copy; where it ends an episode the next one begins at once.

        Args:
            action: `[n]` int64, or `[n, actions]` in [-1, 1] (what is outside is clipped).
            key: seeds of new episodes come from it.
            reset: False where nobody goes on after an episode's end: beginning one may take long (an emulator's ROM).
        """
        seen, final, rewards, terminated, truncated = [], [], [], [], []
        for i, given in enumerate(self._scaled(action)):
            observation, reward, over, late, _ = self._envs[i].step(given)
            self._actions[i].append(given)
            final.append(observation)
            seen.append(self._begin(i, key.fold(i).seed()) if reset and (over or late) else observation)
            rewards.append(float(reward))
            terminated.append(bool(over))
            truncated.append(bool(late))
        return Step(
            self,
            self._tensor(seen, key),
            torch.tensor(rewards, device=key.device),
            torch.tensor(terminated, device=key.device),
            torch.tensor(truncated, device=key.device),
            self._tensor(final, key),
        )

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def state_dict(self) -> dict[str, Any]:
        """The running episodes: seeds and actions."""
        return {"seeds": list(self._seeds), "actions": [[np.asarray(a).tolist() for a in row] for row in self._actions]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Play the episodes of a `state_dict` again."""
        for i, (seed, actions) in enumerate(zip(state["seeds"], state["actions"], strict=True)):
            self._begin(i, seed)
            for action in actions:
                given = self._as_action(i, action)
                self._envs[i].step(given)
                self._actions[i].append(given)

    def _begin(self, i: int, seed: int) -> Any:
        self._seeds[i], self._actions[i] = seed, []
        return self._envs[i].reset(seed=seed)[0]

    def _as_action(self, i: int, stored: Any) -> Any:
        space = self._envs[i].action_space
        return np.asarray(stored, dtype=space.dtype) if isinstance(space, spaces.Box) else stored

    def _scaled(self, action: Tensor) -> list[Any]:
        space = self._envs[0].action_space
        if isinstance(space, spaces.Discrete):
            return [int(space.start) + number for number in action.tolist()]
        assert isinstance(space, spaces.Box)
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        given = np.clip(action.detach().cpu().numpy().astype(np.float64), -1.0, 1.0)
        scaled = (low + (given + 1.0) * 0.5 * (high - low)).astype(space.dtype)
        return list(scaled)

    @staticmethod
    def _tensor(observations: list[Any], key: Key) -> Tensor:
        return torch.as_tensor(np.stack(observations)).to(key.device, torch.get_default_dtype())
