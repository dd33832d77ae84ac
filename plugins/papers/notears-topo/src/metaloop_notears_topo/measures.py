"""What the claims measure: all seeds' data sets in one batch, one value per seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from metaloop import Experiment, Key, Progress
from metaloop.claims import Sample, Setting
from metaloop.learner import AnyLearner
from metaloop.result import table

from metaloop_notears_topo.jobs import search
from metaloop_notears_topo.peers import Dagma, Notears
from metaloop_notears_topo.sem import SEM
from metaloop_notears_topo.swaps import ranked
from metaloop_notears_topo.topo import Search, Topo

if TYPE_CHECKING:
    import pandas as pd


class Sizes(NamedTuple):
    """What is measured on."""

    notears: tuple[tuple[int, int], ...] = ((20, 2), (20, 4))
    """Nodes and degrees of the data sets that NOTEARS is run on."""
    dagma: tuple[tuple[int, int], ...] = ((20, 2), (20, 4), (30, 2), (30, 4))
    topo: tuple[tuple[int, int], ...] = ((20, 2), (20, 4), (30, 2), (30, 4))
    post: tuple[int, int] = (20, 4)
    """Of the data sets where TOPO goes on from NOTEARS."""
    budget: tuple[int, int, int, int] = (30, 4, 50, 8)
    """Nodes and degree where rankings are compared; candidates of a round and rounds of a short search."""


SIZES = Sizes()


def finished(setting: Setting, family: SEM, learner: AnyLearner) -> tuple[Experiment, Progress]:
    """A search on the data sets of all seeds, run to its end once for all claims that need it."""
    experiment = search(family.but(seeds=setting.seeds), learner, device=setting.device)

    def make() -> tuple[Experiment, Progress]:
        progress, name = experiment.begin(), f"{type(learner).__name__} on {family.nodes} nodes"
        for step in range(experiment.total_steps):
            setting.progress(name, step / experiment.total_steps)
            progress = experiment.advance(progress)
            if bool((progress.carry.clock.step >= progress.carry.clock.lifetime).all()):
                break
        return experiment, progress

    return setting.share(experiment.model_dump_json(), make)


def rows(setting: Setting, family: SEM, learner: AnyLearner) -> pd.DataFrame:
    """A row for each seed."""
    return table(*finished(setting, family, learner))


def topo(setting: Setting, steps: int = 60) -> Topo:
    """TOPO from a random order; broken: it stays there."""
    return Topo(steps=0 if setting.broken else steps)


def over(
    setting: Setting, sizes: tuple[tuple[int, int], ...], learner: AnyLearner, what: str, largest: bool = False
) -> list[float]:
    """A metric's mean (or largest value) over sizes, for each seed."""
    found = torch.tensor([rows(setting, SEM(nodes=d, degree=k), learner)[what].tolist() for d, k in sizes])
    return (found.amax(0) if largest else found.mean(0)).tolist()


def above_true_order(setting: Setting) -> Sample:
    """C1: largest share over sizes by which Q lies above the true order's."""
    return Sample(over(setting, SIZES.topo, topo(setting), "gap", largest=True))


def beside_notears(setting: Setting, what: str) -> Sample:
    """C1, C2: a metric of TOPO and of NOTEARS."""
    return Sample(*(over(setting, SIZES.notears, learner, what) for learner in (topo(setting), Notears())))


def beside_dagma(setting: Setting, what: str) -> Sample:
    """C1, C2: a metric of TOPO and of DAGMA."""
    return Sample(*(over(setting, SIZES.dagma, learner, what) for learner in (topo(setting), Dagma())))


def after_notears(setting: Setting, before: str, after: str) -> Sample:
    """C3: a metric after TOPO went on from NOTEARS' graph, and before."""
    d, k = SIZES.post
    found = rows(setting, SEM(nodes=d, degree=k), topo(setting).but(start=Notears()))
    scale = found["true_score"] if after == "loss" else 1.0
    return Sample((found[after] / scale).tolist(), (found[before] / scale).tolist())


def improving_pairs(setting: Setting) -> Sample:
    """C4: how many of all pairs would improve Q where a search with all of them in its large set ended.

    Broken: it is stopped after two rounds.
    """
    d, k = SIZES.topo[0]
    pairs = d * (d - 1) // 2
    learner = Topo(steps=2 if setting.broken else 100, large=pairs, large_searches=1000)
    _, progress = finished(setting, SEM(nodes=d, degree=k), learner)
    return Sample(improving(learner, progress.carry.state, progress.carry.draw.tasks.x).tolist())


def improving(learner: Topo, state: Search, x: torch.Tensor) -> torch.Tensor:
    """The number of all pairs that would improve Q, `[task]`."""
    d = x.shape[2]
    none = torch.ones(len(x), d, d, dtype=torch.float64, device=x.device)
    every = ranked(none, none, "code", d * d, d * d, 0.0, Key.of(0).split(len(x))).small
    gain, _ = learner.model.trial(x, state.fit, state.order, every, learner.swap)
    return (gain > learner.model.least * state.score[:, None]).sum(1)


def ranked_by_gradient(setting: Setting, what: str) -> Sample:
    """C5: `scored` swaps until searches end, or log10 of Q over the true order's at an equal number of them.

    By grad h and at random; broken: at random in both.
    """
    d, k, small, rounds = SIZES.budget
    cut = Topo(steps=rounds, small=small, large=small, large_searches=0)
    learner = Topo() if what == "scored" else cut
    found = []
    for rule in ("random" if setting.broken else "kkt", "random"):
        table = rows(setting, SEM(nodes=d, degree=k), learner.but(rule=rule))
        values = table["scored"] if what == "scored" else (1 + table["gap"]).map(math.log10)
        found.append(values.tolist())
    return Sample(*found)
