"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` smaller ones for two cores."""

from __future__ import annotations

from typing import Any, Literal

from metaloop import Experiment, Options, Pipeline
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.meta_optimizers.gradient import TruncatedGradient
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.families import grid_family
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_network import LpgNetwork, TimeInputs
from metaloop_rl.tasks import Environments

from metaloop_ta_lpg.drift import DriftObjective
from metaloop_ta_lpg.lpo import Lpo
from metaloop_ta_lpg.stages import Drifts, Schedules

Sampling = Literal["antithetic", "independent"]
"""Pairs that share a task and are ranked within it; or a task for each candidate, and ranks over all."""

SMALL = Environments(env=grid_family("small").but(view="index"), lifetimes=(5, 30))
ALL = Environments(env=grid_family("all").but(view="index"), lifetimes=(10, 250))
RATES: dict[TimeInputs, float] = {"off": 0.1, "relative": 0.05, "raw": 0.05}
SIGMA = 0.2
"""Of evolution with few generations; the paper has rates of 0.01 and a sigma of 0.1 for 2500."""
POLES = Environments(env=CartPole(max_steps=200))


def strategy(pairs: int, sampling: Sampling = "antithetic", **fields: Any) -> EvolutionStrategy:
    """The paper's evolution strategy, with or without antithetic task sampling."""
    antithetic = sampling == "antithetic"
    how = {
        "task_per_pair": antithetic,
        "task_per_candidate": not antithetic,
        "shaping": "pair_rank" if antithetic else "centered_rank",
    }
    return EvolutionStrategy(population=2 * pairs, **({"sigma": 0.1, "lr": 1e-2} | how | fields))


def small_rule(time_inputs: TimeInputs, **fields: Any) -> Lpg:
    """LPG at a size for CPUs."""
    network = LpgNetwork(hidden=16, time_inputs=time_inputs)
    return Lpg(**({"workers": 8, "episodes": 16, "network": network, "critic": False} | fields))


def evolved(
    time_inputs: TimeInputs, steps: int, sampling: Sampling = "antithetic", pairs: int = 64, **fields: Any
) -> Experiment:
    """Meta-training by evolution over whole lives."""
    return Experiment(
        tasks=SMALL,
        learner=small_rule(time_inputs),
        meta_optimizer=strategy(pairs, sampling, lr=RATES[time_inputs], sigma=SIGMA),
        task_batch=pairs if sampling == "antithetic" else 2 * pairs,
        steps=steps,
        **fields,
    )


def by_gradient(time_inputs: TimeInputs, steps: int, lives: int = 16, **fields: Any) -> Experiment:
    """Meta-training of the same learner by gradients through windows of five updates."""
    return Experiment(
        tasks=SMALL,
        learner=small_rule(time_inputs, critic=True),
        meta_optimizer=TruncatedGradient(window=5, measure="end", lr=1e-2),
        task_batch=lives,
        steps=steps,
        **fields,
    )


def schedules(profile: str = "cpu") -> Pipeline:
    """LPG and TA-LPG by evolution, TA-LPG by meta-gradients: what they do with the time of a life."""
    if profile == "gpu":
        rule = {name: Lpg(network=LpgNetwork(time_inputs=name), critic=False) for name in ("off", "relative")}
        decay: dict[str, Any] = {"schedule": "ExponentialLR", "schedule_options": Options(gamma=0.999)}
        common: dict[str, Any] = {"tasks": ALL, "task_batch": 512}
        es = common | {"meta_optimizer": strategy(512, **decay), "steps": 2500}
        slope = TruncatedGradient(window=5, measure="end", lr=1e-4)
        stages = {
            "ta-lpg": Experiment(learner=rule["relative"], **es),
            "lpg": Experiment(learner=rule["off"], **es),
            "ta-lpg-gradient": Experiment(
                learner=rule["relative"].but(critic=True), meta_optimizer=slope, steps=5000, **common
            ),
        }
        return Pipeline(name="ta-lpg", stages={**stages, "schedules": Schedules(lifetimes=(10, 50, 250, 1000), n=64)})
    stages = {
        "ta-lpg": evolved("relative", 25),
        "lpg": evolved("off", 25),
        "ta-lpg-gradient": by_gradient("relative", 120),
    }
    return Pipeline(name="ta-lpg", stages={**stages, "schedules": Schedules()})


def drifting(time_inputs: Literal["off", "relative"], steps: int, pairs: int = 64, **fields: Any) -> Experiment:
    """Meta-training of a drift that begins from PPO's, on whole trainings."""
    drift = DriftObjective(time_inputs=time_inputs, width=32)
    learner = Lpo(drift=drift, copies=32, horizon=16, epochs=2, minibatches=2, lr=3e-3)
    return Experiment(
        tasks=POLES,
        learner=learner,
        meta_optimizer=strategy(pairs, lr=0.02),
        task_batch=pairs,
        steps=steps,
        **fields,
    )


def lpo(profile: str = "cpu") -> Pipeline:
    """Drifts evolved from PPO's clipping with and without the time."""
    if profile == "gpu":
        wide = Lpo(steps=250, copies=64, horizon=128)
        stages = {
            name: Experiment(
                tasks=POLES.but(env=CartPole()),
                learner=wide.but(drift=DriftObjective(time_inputs=inputs)),
                meta_optimizer=strategy(16),
                task_batch=16,
                steps=1025,
            )
            for name, inputs in (("ta-lpo", "relative"), ("lpo", "off"))
        }
    else:
        stages = {"ta-lpo": drifting("relative", 8), "lpo": drifting("off", 8)}
    return Pipeline(name="ta-lpg/lpo", stages={**stages, "drifts": Drifts()})
