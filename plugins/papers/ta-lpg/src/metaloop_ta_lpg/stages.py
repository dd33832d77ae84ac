"""What follows meta-training: the schedules that rules follow, the drifts that were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from metaloop import Context, Experiment, Key, Result, Stage, UserError
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.models import Theta
from metaloop_rl.tasks import Environments
from pydantic import Field
from rich.table import Table
from torch import Tensor

from metaloop_ta_lpg import pictures
from metaloop_ta_lpg.lpo import Lpo
from metaloop_ta_lpg.schedule import Schedule, follow

NO_DRIFT = "ppo"
"""Trainings under PPO's own clipping: f = 0."""


class Schedules(Stage):
    """Sizes of updates and entropies over lives of several lengths, of all rules trained before (all are LPG's)."""

    lifetimes: tuple[int, ...] = Field(default=(5, 15, 30, 60), min_length=1, description="updates of a life")
    n: int = Field(default=16, ge=1, description="levels, the same for every rule and length")

    @classmethod
    def example(cls) -> Self:
        """Two short lives."""
        return cls(lifetimes=(2, 3), n=2)

    def run(self, context: Context) -> Mapping[str, Any]:
        """A table of returns, the picture of the schedules."""
        rules = {name: result for name, result in context.results.items() if _is(result, Lpg)}
        if not rules:
            raise UserError(f"{context.name}: there is no stage before it that trained rl/lpg")
        found: dict[str, dict[int, Schedule]] = {name: {} for name in rules}
        todo = [(name, lifetime) for name in rules for lifetime in self.lifetimes]
        for name, lifetime in context.track(todo, "schedules"):
            result = rules[name]
            learner, tasks = result.experiment.learner, result.experiment.tasks
            assert isinstance(learner, Lpg)
            assert isinstance(tasks, Environments)
            with result.experiment.scope():
                found[name][lifetime] = follow(learner, result.theta, tasks, lifetime, self.n, context.key)
        context.artifact("schedules.png", pictures.save(pictures.schedules(found)))
        context.show(_returns(found))
        return {
            name: {
                str(lifetime): {**one._asdict(), "dynamicity": one.dynamicity, "annealing": one.annealing}
                for lifetime, one in own.items()
            }
            for name, own in found.items()
        }


class Drifts(Stage):
    """Returns of trainings under the drifts of earlier stages and under PPO's, and the drifts themselves."""

    n: int = Field(default=16, ge=2, description="fresh trainings under each drift")

    @classmethod
    def example(cls) -> Self:
        """Two."""
        return cls(n=2)

    def run(self, context: Context) -> Mapping[str, Any]:
        """A table of returns, a picture of each drift over the ratio, early and late in a life."""
        drifts = {name: result for name, result in context.results.items() if _is(result, Lpo)}
        if not drifts:
            raise UserError(f"{context.name}: there is no stage before it that trained ta-lpg/lpo")
        found, curves = {}, {}
        for name, result in context.track(list(drifts.items()), "trainings"):
            learner = result.experiment.learner
            assert isinstance(learner, Lpo)
            with result.experiment.scope():
                if NO_DRIFT not in found:
                    found[NO_DRIFT] = trainings(result.experiment, without(result.theta), self.n, context.key)
                found[name] = trainings(result.experiment, result.theta, self.n, context.key)
                curves[name] = {f: over_ratios(learner, result.theta, f) for f in (0.0, 0.5, 1.0)}
        context.artifact("drifts.png", pictures.save(pictures.drifts(RATIOS.tolist(), curves)))
        table = Table(title=f"Mean return over {self.n} fresh trainings")
        table.add_column("")
        for column in ("mean", "standard error"):
            table.add_column(column, justify="right")
        for name, values in found.items():
            error = float(values.std() / len(values) ** 0.5)
            table.add_row(name, f"{float(values.mean()):.1f}", f"{error:.1f}")
        context.show(table)
        return {name: {"mean": float(values.mean()), "returns": values.tolist()} for name, values in found.items()}


RATIOS = torch.linspace(0.5, 1.5, 101)


def over_ratios(learner: Lpo, theta: Theta, fraction: float) -> list[list[float]]:
    """The drift at `RATIOS`, at advantages 1 and -1, at n/N."""
    at = torch.tensor(fraction)
    theta = {name: value.float().cpu() for name, value in theta.items()}
    return [learner.drift(theta, RATIOS.log(), torch.full_like(RATIOS, sign), at).tolist() for sign in (1.0, -1.0)]


def without(theta: Theta) -> Theta:
    """A drift with f = 0."""
    return {name: torch.zeros_like(value) for name, value in theta.items()}


def trainings(experiment: Experiment, theta: Theta, n: int, key: Key) -> Tensor:
    """Mean returns of `n` fresh trainings `[n]` under a drift; the same ones for every drift."""
    tasks = experiment.tasks.sample(experiment.tasks.begin(key), n, key.fold("poles")).tasks
    with torch.no_grad():
        returns: Tensor = experiment.learner.outcomes(theta, tasks, key.fold("trainings").split(n)).fitness
    return returns


def _is(result: object, learner: type) -> bool:
    return isinstance(result, Result) and isinstance(result.experiment.learner, learner)


def _returns(found: Mapping[str, Mapping[int, Schedule]]) -> Table:
    lifetimes = list(next(iter(found.values())))
    table = Table(
        title="Return at the end of lives of so many updates, on new levels",
        caption="dynamicity: deviation of the update's size over a life by its mean, for the longest",
    )
    table.add_column("rule")
    for lifetime in lifetimes:
        table.add_column(str(lifetime), justify="right")
    table.add_column("dynamicity", justify="right")
    for name, own in found.items():
        returns = [f"{one.returned:.2f}" for one in own.values()]
        table.add_row(name, *returns, f"{own[lifetimes[-1]].dynamicity:.3f}")
    return table
