"""The stage that follows training: MDPO's course beside its peers' at the same budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from metaloop import Context, Result, Stage, UserError
from metaloop.summaries import interval
from metaloop_rl.tasks import GymTasks
from pydantic import Field
from rich.table import Table

from metaloop_mdpo import pictures
from metaloop_mdpo.baselines import Peer, available
from metaloop_mdpo.contest import Budget, Contender, Course, budget_of, contest
from metaloop_mdpo.off_policy import OffPolicyGym
from metaloop_mdpo.on_policy import OnPolicyGym


class BesidePeers(Stage):
    """Learning curves and last returns of earlier trainings, and of peers on as many seeds with the same budget."""

    trained: tuple[str, ...] = Field(default=("mdpo",), min_length=1, description="earlier stages, one task a seed")
    peers: tuple[Peer, ...] = Field(default=(Peer(algorithm="TRPO"), Peer()), description="who is trained beside them")

    @classmethod
    def example(cls) -> Self:
        """Beside PPO alone."""
        return cls(peers=(Peer(),))

    def run(self, context: Context) -> Mapping[str, Any]:
        """Mean last returns with intervals; a table, a picture of learning curves."""
        courses: dict[str, Sequence[Course]] = {}
        last: dict[str, list[float]] = {}
        settings = set()
        for name in self.trained:
            result, learner, tasks = _training(context, name)
            courses[name], last[name] = [_history(result, learner)], _last(result)
            budget, seeds = budget_of(learner), result.experiment.batch
            settings.add((tasks, budget, seeds))
        if len(settings) > 1:
            raise UserError(f"{context.name}: {', '.join(self.trained)} differ in tasks, budget or number of seeds")
        if self.peers and not available():
            context.show("Peers are left out: pip install 'metaloop-mdpo[peers]'")
        else:
            others: dict[str, Contender] = {peer.algorithm: peer for peer in self.peers}
            found = contest(others, tasks, budget, range(context.seed, context.seed + seeds))
            courses |= found
            last |= {name: [course[-1]["fitness"] for course in own] for name, own in found.items()}
        title = f"{tasks.id}, {seeds} seeds"
        context.artifact("learning-curves.png", pictures.save(pictures.learning_curves(courses, title)))
        context.show(_table(title, last, budget))
        return {name: interval(values)._asdict() | {"returns": values} for name, values in last.items()}


def _training(context: Context, name: str) -> tuple[Result, OnPolicyGym | OffPolicyGym, GymTasks]:
    result = context.results.get(name)
    if not isinstance(result, Result):
        raise UserError(f"{context.name}: trained names {name!r}, which is no earlier experiment")
    learner, tasks = result.experiment.learner, result.experiment.tasks
    if not (isinstance(learner, OnPolicyGym | OffPolicyGym) and isinstance(tasks, GymTasks)):
        raise UserError(
            f"{context.name}: {name!r} must train mdpo/on-policy-gym or mdpo/off-policy-gym on rl/gym tasks"
        )
    return result, learner, tasks


def _history(result: Result, learner: OnPolicyGym | OffPolicyGym) -> Course:
    """Means over seeds at each logged iteration."""
    before = learner.warmup if isinstance(learner, OffPolicyGym) else 0
    row = budget_of(learner).row
    rows = [entry for entry in result.history if "fitness" in entry]
    return [
        {"steps": float(before + row * entry["step"]), "fitness": entry["fitness"], "kl": entry["kl"]} for entry in rows
    ]


def _last(result: Result) -> list[float]:
    """Each seed's fitness at the end."""
    draw, state, clock, keys = result.progress.carry
    with torch.no_grad(), result.experiment.scope():
        values: list[float] = result.experiment.learner.measure(
            result.theta, state, draw.tasks, clock, keys
        ).fitness.tolist()
    return values


def _table(title: str, last: Mapping[str, Sequence[float]], budget: Budget) -> Table:
    table = Table(title=f"Return after {budget.steps:,} environment steps: {title}")
    for column in ("", "mean", "95% interval", "each seed"):
        table.add_column(column, justify="left" if column in ("", "each seed") else "right")
    for name, values in last.items():
        mean = interval(values)
        between = "" if mean.low is None else f"{mean.low:.0f} to {mean.high:.0f}"
        table.add_row(name, f"{mean.mean:.0f}", between, " ".join(f"{value:.0f}" for value in values))
    return table
