"""MDPO beside its peers: iterations on policy (PPO, TRPO; Hopper-v5), steps off policy (SAC; Pendulum-v1).

On policy all are at their defaults with the same 2048 environment steps of 8 copies, stepped one after the other: MDPO
takes 10 steps on the whole batch, PPO 10 epochs of 32 minibatches of 64, TRPO one line search and 10 epochs for its
values. Off policy both have the claims' settings: networks of 64 and 64 units, 256 rows, a gradient step each
environment step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from common import arguments, compare, report
from gymnasium.wrappers import RescaleAction
from metaloop.experiment import Experiment
from metaloop_mdpo.jobs import SHORT, SHORT_SAC
from metaloop_mdpo.on_policy import OnPolicyGym
from metaloop_rl.tasks import GymTasks
from numpy import float32
from sb3_contrib import TRPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

BATCH, COPIES = 2048, 8
OFF_POLICY = 250
"""Environment steps at a time, off policy."""


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


class Sac:
    """As many steps of stable-baselines3's SAC, after its random ones."""

    def __init__(self) -> None:
        import gymnasium

        env = RescaleAction(gymnasium.make("Pendulum-v1"), float32(-1), float32(1))
        options = {**SHORT_SAC.options, "policy_kwargs": {"net_arch": [64, 64]}}
        self.model = SAC("MlpPolicy", env, seed=0, device="cpu", **options)
        self.model.learn(options["learning_starts"], log_interval=None)

    def __call__(self) -> None:
        self.model.learn(OFF_POLICY, reset_num_timesteps=False, log_interval=None)


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
    off_policy = Experiment(
        tasks=GymTasks(id="Pendulum-v1"),
        learner=SHORT.but(steps=10**6, sgd_steps=OFF_POLICY),
        task_batch=1,
        log_every=10**6,
        device="cpu",
    )
    beside_sac = compare(
        f"{OFF_POLICY} steps of Pendulum-v1, off policy",
        ("MDPO", Ours(off_policy)),
        ("SAC", Sac()),
        rounds=given.rounds,
    )
    facts = {f"environment steps a second, {row.second}": 1e3 * BATCH / row.second_ms for row in rows}
    facts["environment steps a second, MDPO"] = 1e3 * BATCH / rows[0].first_ms
    facts["environment steps a second, MDPO off policy"] = 1e3 * OFF_POLICY / beside_sac.first_ms
    report("MDPO", [*rows, beside_sac], facts, given)


if __name__ == "__main__":
    main()
