"""Peers at equal budgets: stable-baselines3's PPO and SAC, sb3-contrib's TRPO, on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from metaloop import Component, Options, UserError
from metaloop_rl.tasks import GymTask
from pydantic import Field

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

Row = dict[str, float]


class Peer(Component):
    """A peer's algorithm with its own defaults; what differs from them is in `options`."""

    algorithm: Literal["PPO", "TRPO", "SAC"] = Field(default="PPO", description="which one")
    options: Options = Field(default=Options(), description="arguments that differ from the peer's defaults")
    normalise: bool = Field(default=True, description="observations and rewards by its VecNormalize (not SAC's)")

    @classmethod
    def example(cls) -> Self:
        """TRPO."""
        return cls(algorithm="TRPO")

    def train(
        self, task: GymTask, steps: int, *, seed: int, copies: int = 8, batch: int = 2048, window: int = 20
    ) -> list[Row]:
        """Train for some environment steps.

        Args:
            task: the environment.
            steps: environment steps over all copies.
            seed: the peer's.
            copies: environments side by side.
            batch: environment steps of an iteration over all copies (of a row, for SAC).
            window: how many last episodes a return is the mean of.

        Returns:
            After each iteration `steps`, `fitness` (mean return of the last episodes) and, of TRPO, `kl`.

        Raises:
            UserError: the peers are not installed.
        """
        algorithm, callbacks, monitor, vec = _peers(self.algorithm)
        rows: list[Row] = []

        class Follow(callbacks.BaseCallback):  # type: ignore[misc, name-defined]
            """Keeps the last episodes' returns, and what the peer logs of its last update."""

            def _on_step(self) -> bool:
                if self.num_timesteps % batch == 0 or self.num_timesteps >= steps:
                    rows.append(self.row())
                return True

            def _on_rollout_start(self) -> None:
                if rows and "kl" not in rows[-1]:  # told after the update that followed the row
                    rows[-1] |= _kl(self.model)

            def _on_training_end(self) -> None:
                rows[-1] |= _kl(self.model)

            def row(self) -> Row:
                last = [info["r"] for info in self.model.ep_info_buffer]
                return {"steps": float(self.num_timesteps), "fitness": float(np.mean(last)) if last else 0.0}

        env: VecEnv = vec.DummyVecEnv([partial(_monitored, task, monitor) for _ in range(copies)])
        options = dict(self.options)
        if "policy_kwargs" in options:
            options["policy_kwargs"] = _plain(options["policy_kwargs"])
        if self.algorithm != "SAC":
            options = {"n_steps": batch // copies, **options}
            env = vec.VecNormalize(env, gamma=options.get("gamma", 0.99)) if self.normalise else env
        with torch.random.fork_rng(devices=[]):
            model = algorithm("MlpPolicy", env, seed=seed % 2**32, device="cpu", stats_window_size=window, **options)
            model.learn(steps, callback=Follow(), log_interval=None)
        env.close()
        return rows


def _plain(value: Any) -> Any:
    """Dicts and lists, which the peers' networks ask for."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def available() -> bool:
    """Whether the peers are installed."""
    return all(find_spec(name) is not None for name in ("stable_baselines3", "sb3_contrib"))


def _kl(model: BaseAlgorithm) -> Row:
    logged = model.logger.name_to_value
    return {"kl": float(logged["train/kl_divergence_loss"])} if "train/kl_divergence_loss" in logged else {}


def _monitored(task: GymTask, monitor: Any) -> Any:
    """The environment with actions in [-1, 1], as MDPO has it."""
    from gymnasium.wrappers import RescaleAction
    from metaloop_rl.gym import open_env

    env = open_env(task)
    return monitor.Monitor(
        RescaleAction(env, np.float32(-1), np.float32(1)) if hasattr(env.action_space, "low") else env
    )


def _peers(name: str) -> tuple[Any, Any, Any, Any]:
    try:
        import stable_baselines3
        from stable_baselines3.common import callbacks, monitor, vec_env

        owner: Any = stable_baselines3
        if name == "TRPO":
            import sb3_contrib

            owner = sb3_contrib
    except ModuleNotFoundError as error:
        raise UserError(f"{name} is a peer's: pip install 'metaloop-mdpo[peers]' (no module {error.name})") from None
    return getattr(owner, name), callbacks, monitor, vec_env
