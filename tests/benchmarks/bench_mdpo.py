"""An iteration of on-policy MDPO beside one of stable-baselines3's PPO and sb3-contrib's TRPO on Hopper-v5.

All at their defaults with the same 2048 environment steps of 8 copies, stepped one after the other: MDPO takes 10 steps
on the whole batch, PPO 10 epochs of 32 minibatches of 64, TRPO one line search and 10 epochs for its values.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from common import arguments, compare, report
from gymnasium.wrappers import RescaleAction
from metaloop.experiment import Experiment
from metaloop_mdpo.on_policy import OnPolicyGym
from metaloop_rl.tasks import GymTasks
from numpy import float32
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

BATCH, COPIES = 2048, 8


class Ours:
    """`Experiment.advance`: one iteration."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.progress = experiment, experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)


class Theirs:
    """One more iteration of a peer."""

    def __init__(self, algorithm: Any, make: Any) -> None:
        env = VecNormalize(DummyVecEnv([make] * COPIES))
        self.model = algorithm("MlpPolicy", env, n_steps=BATCH // COPIES, seed=0, device="cpu")

    def __call__(self) -> None:
        self.model.learn(BATCH, reset_num_timesteps=False, log_interval=None)


def hopper() -> Any:
    """The environment with actions in [-1, 1]."""
    import gymnasium

    return Monitor(RescaleAction(gymnasium.make("Hopper-v5"), float32(-1), float32(1)))


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", rounds=10)
    learner = OnPolicyGym(steps=10**6, batch=BATCH, copies=COPIES)
    tasks = GymTasks(id="Hopper-v5")
    ours = Ours(Experiment(tasks=tasks, learner=learner, task_batch=1, log_every=10**6, device="cpu"))
    rows = [
        compare(
            f"{BATCH} steps of Hopper-v5",
            ("MDPO", ours),
            (name, Theirs(algorithm, partial(hopper))),
            rounds=given.rounds,
        )
        for name, algorithm in (("PPO", PPO), ("TRPO", TRPO))
    ]
    facts = {f"environment steps a second, {row.second}": 1e3 * BATCH / row.second_ms for row in rows}
    facts["environment steps a second, MDPO"] = 1e3 * BATCH / rows[0].first_ms
    report("On-policy MDPO", rows, facts, given)


if __name__ == "__main__":
    main()
