"""GROOVE's antagonist, A2C on many levels at once, beside stable-baselines3's on one level after the other.

Both are linear in the state's number, descend clipped gradients by SGD and spend the same environment steps; the
returns at the end say whether they also find the same. The peer has one rate, so its critic is slowed by its weight;
its environments are stepped one by one, which is most of its time.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from common import arguments, compare, report
from metaloop import Key, tree
from metaloop_groove.a2c import A2C
from metaloop_groove.peers import peer
from metaloop_rl.envs.families import grid_family
from metaloop_rl.tasks import Environments
from stable_baselines3.common.evaluation import evaluate_policy

LEVELS, WORKERS, UPDATES = 4, 16, 25


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", rounds=3)
    warnings.filterwarnings("ignore", module="stable_baselines3")
    levels = Environments(env=grid_family("small").but(view="index")).sample({}, LEVELS, Key.of(0)).tasks
    keys = Key.of(1).split(LEVELS)
    ends: dict[str, Any] = {}

    def ours() -> None:
        ends["metaloop"] = A2C(steps=UPDATES, workers=WORKERS).live({}, levels, keys)[0].fitness.tolist()

    def theirs() -> None:
        found = []
        for i in range(LEVELS):
            model = peer(tree.index(levels, i), WORKERS, learning_rate=40.0, vf_coef=0.1, max_grad_norm=0.5)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model.learn(UPDATES * WORKERS * 20)
                found.append(evaluate_policy(model, model.get_env(), 64, deterministic=False, warn=False)[0])
        ends["stable-baselines3"] = found

    name = f"{UPDATES} updates of {WORKERS} workers on {LEVELS} levels, and 64 episodes"
    with torch.no_grad():
        ours()
    row = compare(name, ("metaloop", ours), ("stable-baselines3", theirs), rounds=given.rounds, warmup=0)
    random = A2C(steps=0, workers=WORKERS).live({}, levels, keys)[0].fitness
    facts = {f"mean return, {who}": sum(values) / LEVELS for who, values in ends.items()}
    report("GROOVE's antagonist", [row], facts | {"mean return, random": float(random.mean())}, given)


if __name__ == "__main__":
    main()
