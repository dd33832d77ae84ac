"""stable-baselines3's PPO at the budget and settings of ours."""

from __future__ import annotations

from typing import Any

import torch
from metaloop import UserError

from metaloop_ta_lpg.lpo import Lpo


def ppo_returns(learner: Lpo, max_steps: int, seed: int) -> float:
    """The mean return over a training on CartPole-v1: all rewards by all episodes begun, as `Lpo` has it.

    Raises:
        UserError: stable-baselines3 is not installed.
    """
    try:
        import gymnasium
        from stable_baselines3 import PPO
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.vec_env import DummyVecEnv
    except ModuleNotFoundError as error:
        raise UserError(f"the peer is missing: pip install 'metaloop-ta-lpg[peers]' (no module {error.name})") from None

    class Count(BaseCallback):
        """Rewards and ends of episodes."""

        reward, episodes = 0.0, learner.copies

        def _on_step(self) -> bool:
            self.reward += float(self.locals["rewards"].sum())
            self.episodes += int(self.locals["dones"].sum())
            return True

    def make(index: int) -> Any:
        return lambda: gymnasium.make("CartPole-v1", max_episode_steps=max_steps)

    rows, count = learner.copies * learner.horizon, Count()
    with torch.random.fork_rng(devices=[]):
        model = PPO(
            "MlpPolicy",
            DummyVecEnv([make(i) for i in range(learner.copies)]),
            learning_rate=learner.lr,
            n_steps=learner.horizon,
            batch_size=rows // learner.minibatches,
            n_epochs=learner.epochs,
            gamma=learner.gamma,
            gae_lambda=learner.lam,
            clip_range=learner.drift.clip,
            ent_coef=learner.entropy,
            vf_coef=learner.value_weight,
            max_grad_norm=learner.clip,
            policy_kwargs={"net_arch": {"pi": [*learner.actor.net.widths], "vf": [*learner.critic.widths]}},
            seed=seed % 2**32,
            device="cpu",
        )
        model.learn(learner.steps * rows, callback=count, log_interval=10**6)
    return count.reward / count.episodes
