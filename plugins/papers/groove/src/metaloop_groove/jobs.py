"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop.tasks import AnyTaskFamily
from metaloop_basics.meta_optimizers.gradient import TruncatedGradient
from metaloop_rl.envs.families import grid_family
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_network import LpgNetwork
from metaloop_rl.tasks import Environments

from metaloop_groove.a2c import A2C
from metaloop_groove.buffer import LevelBuffer
from metaloop_groove.levels import Handcrafted
from metaloop_groove.pool import Pool
from metaloop_groove.scores import AlgorithmicRegret, OptimalRegret, Reported, Score
from metaloop_groove.stages import Standing
from metaloop_groove.transfer import Transfer

GRID = grid_family("small").but(view="index")
GRIDS = Environments(env=GRID)
LARGER = Environments(env=grid_family("medium").but(view="index"))
"""Of another kind than what rules are trained on: 6 to 8 cells a side, up to four objects, longer episodes."""
ALL = Environments(env=grid_family("all").but(view="index"))
"""The paper's levels."""
SMALL = Lpg(steps=50, workers=16, network=LpgNetwork(hidden=64), episodes=16)
PAPER = Lpg()


def a2c(learner: Lpg) -> A2C:
    """The antagonist that lives as long as a learner, with as many workers and agents made of the same."""
    return A2C(
        steps=learner.steps,
        workers=learner.workers,
        segment=learner.segment,
        heads=learner.heads,
        lr=learner.lr,
        critic_lr=learner.critic_lr,
        episodes=learner.episodes,
    )


def curriculum(learner: Lpg, tasks: AnyTaskFamily = GRIDS, score: Score | None = None, **fields: Any) -> LevelBuffer:
    """Levels replayed by algorithmic regret against the learner's antagonist, or by another score."""
    return LevelBuffer(tasks=tasks, score=score or AlgorithmicRegret(antagonist=a2c(learner)), **fields)


def training(tasks: AnyTaskFamily, steps: int, learner: Lpg = SMALL, **fields: Any) -> Experiment:
    """Meta-gradients through windows of updates; on two cores with a larger rate than the paper's 1e-4."""
    defaults: dict[str, Any] = {"task_batch": 48, "log_every": 5}
    optimizer = TruncatedGradient(lr=fields.pop("lr", 3e-3), window=learner.window, measure="end")
    return Experiment(tasks=tasks, learner=learner, meta_optimizer=optimizer, steps=steps, **(defaults | fields))


def papers_training(tasks: AnyTaskFamily, steps: int = 5000) -> Experiment:
    """As the paper trains: 512 lives of 64 workers, 32 at a time."""
    return training(tasks, steps, PAPER, lr=1e-4, task_batch=512, task_chunk=32)


def pair(profile: str) -> dict[str, Any]:
    """LPG on uniform levels, and GROOVE."""
    if profile == "gpu":
        return {"lpg": papers_training(ALL), "groove": papers_training(curriculum(PAPER, ALL))}
    return {"lpg": training(GRIDS, 60), "groove": training(curriculum(SMALL), 60)}


def standing(profile: str, rules: Any) -> Standing:
    """Rules on held-out levels of the kind that they were trained on."""
    if profile == "gpu":
        return Standing(rules=tuple(rules), levels=ALL, n=512, a2c=a2c(PAPER))
    return Standing(rules=tuple(rules), levels=GRIDS, a2c=a2c(SMALL))


def groove(profile: str = "cpu") -> Pipeline:
    """GROOVE beside LPG on uniform levels, on held-out levels."""
    rules = pair(profile)
    return Pipeline(name="groove", stages={**rules, "standing": standing(profile, rules)})


def scores(profile: str = "cpu") -> Pipeline:
    """The paper's other ways to pick levels: value losses, regret against the optimal policy, levels made by hand.

    The grids of the `gpu` profile have too many states for the optimal policy in passing: it is left to `cpu`'s.
    """
    ways: dict[str, Score] = {
        "regret": AlgorithmicRegret(antagonist=a2c(PAPER if profile == "gpu" else SMALL)),
        "l1-value-loss": Reported(metric="value_loss"),
        "positive-value-loss": Reported(metric="positive_value_loss"),
    }
    if profile == "gpu":
        rules = {name: papers_training(curriculum(PAPER, ALL, score)) for name, score in ways.items()}
        rules |= {"uniform": papers_training(ALL), "handcrafted": papers_training(Handcrafted())}
    else:
        ways["optimal-regret"] = OptimalRegret()
        rules = {name: training(curriculum(SMALL, GRIDS, score), 40) for name, score in ways.items()}
        rules |= {"uniform": training(GRIDS, 40), "handcrafted": training(Handcrafted(members=("dense", "sparse")), 40)}
    return Pipeline(name="groove/scores", stages={**rules, "standing": standing(profile, rules)})


def pool(profile: str = "cpu") -> Pipeline:
    """Rules trained on few random levels (paper, Figure 5)."""
    if profile == "gpu":
        rules = {f"levels-{n}": papers_training(Pool(tasks=ALL, n=n)) for n in (4, 16, 64, 256, 1024)}
    else:
        rules = {f"levels-{n}": training(Pool(tasks=GRIDS, n=n), 40) for n in (4, 16, 64)}
    return Pipeline(name="groove/pool", stages={**rules, "standing": standing(profile, rules)})


def minatar(profile: str = "cpu") -> Pipeline:
    """GROOVE and LPG in MinAtar's Breakout and Asterix."""
    rules = pair(profile)
    transfer = Transfer(rules=tuple(rules))
    if profile == "gpu":
        games = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
        transfer = transfer.but(games=games, seeds=16, updates=100_000, workers=64)
    return Pipeline(name="groove/minatar", stages={**rules, "transfer": transfer})
