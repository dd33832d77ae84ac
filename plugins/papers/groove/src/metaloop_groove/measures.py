"""What the claims measure: rules meta-trained from every seed, on levels that none of them was trained on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from metaloop import Experiment, Key
from metaloop.claims import Sample, Setting
from metaloop.tasks import AnyTaskFamily
from metaloop_rl.models import Theta
from metaloop_rl.tasks import Worlds
from torch import Tensor

from metaloop_groove import jobs
from metaloop_groove.heldout import HeldOut, held_out, returns
from metaloop_groove.optimal import optimal_return
from metaloop_groove.pool import Pool
from metaloop_groove.stages import summary

STEPS = 40, 60
"""Meta-steps of plain and full measurements."""
POOL_STEPS = 20, 40
"""Of the rules trained on a few levels of a pool."""
HELD_OUT = 32, 64
POOL = 256
FEW = 16
"""Levels of a pool that a rule is trained on."""
TOP = 0.1
"""Share of the levels that have the highest regret."""
LEARNER = jobs.SMALL
SHIFTED = jobs.LARGER


def training(tasks: AnyTaskFamily, steps: int) -> Experiment:
    """As the main job trains."""
    return jobs.training(tasks, steps, learner=LEARNER)


def trained(setting: Setting, name: str, families: list[AnyTaskFamily], steps: int) -> list[Theta]:
    """A rule of every seed, meta-trained on its family; once for all claims that need it."""

    def make() -> list[Theta]:
        found = []
        for i, (seed, tasks) in enumerate(zip(setting.seeds, families, strict=True)):
            experiment = training(tasks, steps).but(seed=seed, device=setting.device)
            progress = experiment.begin()
            while not experiment.ended(progress):
                progress = experiment.advance(progress)
                setting.progress(f"meta-training {name}", (i + progress.step / steps) / len(setting.seeds))
            found.append(progress.theta)
        return found

    return setting.share(f"{name} {steps}", make)


def rules(setting: Setting, name: str) -> list[Theta]:
    """Rules by name: `groove` and `lpg` were meta-trained, `untrained` are as first drawn."""
    if name == "untrained":
        return trained(setting, name, [jobs.GRIDS for _ in setting.seeds], 0)
    tasks: AnyTaskFamily = jobs.curriculum(LEARNER) if name == "groove" else jobs.GRIDS
    return trained(setting, name, [tasks for _ in setting.seeds], STEPS[setting.full])


def levels(setting: Setting, family: AnyTaskFamily) -> HeldOut:
    """Held-out levels, the same for all seeds and rules."""
    make = partial(held_out, family, HELD_OUT[setting.full], jobs.a2c(LEARNER), Key.of(0, setting.device))
    return setting.share(f"held out {family.model_dump_json()}", make)


def shares(setting: Setting, thetas: list[Theta], family: AnyTaskFamily) -> list[Tensor]:
    """Each seed's returns on held-out levels `[level]` as shares of A2C's."""
    known = levels(setting, family)
    keys = [Key.of(seed, setting.device).fold("held out") for seed in setting.seeds]
    return [
        known.normalised(returns(LEARNER, theta, known.levels, key)) for theta, key in zip(thetas, keys, strict=True)
    ]


def on_grids(setting: Setting, name: str, part: str) -> list[float]:
    """Each seed's mean share over all held-out grids, or over a half of them."""
    found = setting.share(f"shares of {name}", lambda: shares(setting, rules(setting, name), jobs.GRIDS))
    return [summary(own)[part] for own in found]


def treated(setting: Setting) -> str:
    """The rule that is claimed about; broken: one that was never trained."""
    return "untrained" if setting.broken else "groove"


def works(setting: Setting) -> Sample:
    """C1a: the meta-trained rule's share of A2C's return."""
    return Sample(on_grids(setting, treated(setting), "mean"))


def learned(setting: Setting) -> Sample:
    """C1b: beside the rule as first drawn."""
    return Sample(on_grids(setting, treated(setting), "mean"), on_grids(setting, "untrained", "mean"))


def beside_uniform(part: str) -> Callable[[Setting], Sample]:
    """C2: GROOVE beside LPG on uniform levels, each over the same half of its own ranking of held-out levels."""
    return lambda setting: Sample(on_grids(setting, treated(setting), part), on_grids(setting, "lpg", part))


class Judged(NamedTuple):
    """A pool's levels, `[level]` each: what three agents end with."""

    rule: Tensor
    a2c: Tensor
    best: Tensor
    """The optimal policy."""


def judged(setting: Setting) -> list[Judged]:
    """A pool of each seed's own, under the rule that it meta-trained on uniform levels."""
    a2c = jobs.a2c(LEARNER)

    def of(seed: int, theta: Theta) -> Judged:
        tasks = pool(seed).whole(setting.device)
        key = Key.of(seed, setting.device).fold("pool")
        assert isinstance(tasks, Worlds)
        best = optimal_return(jobs.GRID, tasks.parameters)
        return Judged(returns(LEARNER, theta, tasks, key), returns(a2c, {}, tasks, key), best)

    thetas = rules(setting, "lpg")
    pairs = zip(setting.seeds, thetas, strict=True)
    return setting.share("pools", lambda: [of(seed, theta) for seed, theta in pairs])


def pool(seed: int, rows: tuple[int, ...] | None = None) -> Pool:
    """Levels of the family that rules are meta-trained on."""
    return Pool(tasks=jobs.GRIDS, n=POOL, number=seed, rows=rows)


def informative(setting: Setting) -> Sample:
    """C3: fresh rules trained on the levels of highest regret beside ones trained on random levels of the pool.

    Both are judged on levels of another kind. Broken: the treatment is trained on nothing.
    """
    top: list[AnyTaskFamily] = []
    some: list[AnyTaskFamily] = []
    for seed, own in zip(setting.seeds, judged(setting), strict=True):
        regret = own.a2c - own.rule
        top.append(pool(seed, tuple(regret.topk(FEW).indices.tolist())))
        some.append(pool(seed, tuple(Key.of(seed).fold("some").permutation(POOL)[:FEW].tolist())))
    steps = POOL_STEPS[setting.full]
    rows = [
        trained(
            setting,
            "on the highest regret, broken" if setting.broken else "on the highest regret",
            top,
            0 if setting.broken else steps,
        ),
        trained(setting, "on random levels of the pool", some, steps),
    ]
    first, second = ([float(own.mean()) for own in shares(setting, each, SHIFTED)] for each in rows)
    return Sample(first, second)


def solvable(setting: Setting) -> Sample:
    """C4: A2C's share of the optimal return on the levels of highest regret: against A2C, and against the optimum.

    Broken: the two are exchanged.
    """
    found: list[list[float]] = [[], []]
    for own in judged(setting):
        for values, regret in zip(found, (own.a2c - own.rule, own.best - own.rule), strict=True):
            rows = regret.topk(max(1, round(TOP * len(regret)))).indices
            values.append(float(own.a2c[rows].mean() / own.best[rows].mean()))
    by_algorithm, by_optimum = found[::-1] if setting.broken else found
    return Sample(by_algorithm, by_optimum)
