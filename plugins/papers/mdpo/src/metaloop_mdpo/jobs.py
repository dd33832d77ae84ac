"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop_basics.models import Mlp
from metaloop_rl.models import OrthogonalMlp
from metaloop_rl.policies import Actor, SquashedActor
from metaloop_rl.tasks import GymTasks

from metaloop_mdpo.baselines import Peer
from metaloop_mdpo.off_policy import OffPolicyGym
from metaloop_mdpo.on_policy import OnPolicyGym
from metaloop_mdpo.stages import BesidePeers


def on_policy(profile: str = "cpu") -> Pipeline:
    """On-policy MDPO beside TRPO and PPO at their defaults; `cpu` also with the steps that a short training needs."""
    tasks, stages = GymTasks(id="Hopper-v5"), {}
    if profile == "gpu":
        wide = OrthogonalMlp(widths=(256, 256), activation="tanh")
        paper = OnPolicyGym(steps=4883, actor=Actor(net=wide.but(head_gain=0.01)), critic=wide)
        stages["mdpo"] = training(tasks, paper, 5)
    else:
        stages["mdpo"] = training(tasks, OnPolicyGym(steps=16), 3)
        stages["mdpo-large-steps"] = training(tasks, LARGE_STEPS.but(steps=16), 3)
    beside = BesidePeers(trained=tuple(stages))
    return Pipeline(name="mdpo", stages={**stages, "peers": beside})


LARGE_STEPS = OnPolicyGym(lr=3e-3, value_lr=1e-3, t=3.0)
"""The best of nine settings for 25 iterations on Hopper-v5 (seeds 0 and 1): a constant, large t and learning rate."""


def minimal(profile: str = "cpu") -> Pipeline:
    """The paper's 'minimal' forms: MDPO, TRPO and PPO without what their codes add to the algorithms."""
    steps, seeds = (4883, 5) if profile == "gpu" else (20, 3)
    bare: dict[str, Any] = {"gae_lambda": 1.0, "policy_kwargs": {"ortho_init": False}}
    ppo = Peer(options=bare, normalise=False)  # with its minibatches: on whole batches its values have 10 steps for 80
    trpo = Peer(algorithm="TRPO", options=bare, normalise=False)
    stages = {"mdpo": training(GymTasks(id="Hopper-v5"), OnPolicyGym.minimal(steps=steps), seeds)}
    return Pipeline(name="mdpo/minimal", stages={**stages, "peers": BesidePeers(peers=(trpo, ppo))})


def off_policy(profile: str = "cpu") -> Pipeline:
    """Off-policy MDPO with KL and with a Tsallis divergence beside SAC."""
    learner, tasks, seeds, sac = SHORT.but(steps=16), GymTasks(id="Pendulum-v1"), 2, SHORT_SAC
    if profile == "gpu":
        wide = Mlp(widths=(256, 256))
        learner, tasks, seeds = (
            OffPolicyGym(steps=990, actor=SquashedActor(net=wide), critic=wide),
            GymTasks(id="Hopper-v5"),
            5,
        )
        sac = Peer(algorithm="SAC", options={"learning_starts": 10_000})
    return Pipeline(
        name="mdpo/off-policy",
        stages={
            "mdpo-kl": training(tasks, learner, seeds),
            "mdpo-tsallis": training(tasks, learner.but(q=1.5), seeds),
            "peers": BesidePeers(trained=("mdpo-kl", "mdpo-tsallis"), peers=(sac,)),
        },
    )


SHORT = OffPolicyGym(steps=24, sgd_steps=250, warmup=1000, capacity=20_000, lr=1e-3)
"""Off-policy MDPO for a few thousand steps."""
SHORT_SAC = Peer(
    algorithm="SAC",
    options={
        "learning_starts": 1000,
        "buffer_size": 20_000,
        "learning_rate": 1e-3,
        "policy_kwargs": {"net_arch": (64, 64)},
    },
)
"""SAC with the same networks, buffer, warm-up and learning rate."""


def training(tasks: GymTasks, learner: OnPolicyGym | OffPolicyGym, seeds: int) -> Experiment:
    """The learner's own loop: every task is a seed."""
    return Experiment(tasks=tasks, learner=learner, task_batch=seeds)
