"""Contenders on one task at equal budgets: MDPO and its peers, seeds side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from metaloop import Component, Experiment, InProcess, ProcessPool
from metaloop_rl.tasks import GymTasks
from pydantic import Field

from metaloop_mdpo.baselines import Peer, Row
from metaloop_mdpo.off_policy import OffPolicyGym
from metaloop_mdpo.on_policy import OnPolicyGym

Contender = OnPolicyGym | OffPolicyGym | Peer
Course = list[Row]
"""One training: `steps`, `fitness` and what else is known, after each iteration."""


class Budget(Component):
    """What every contender may spend on a seed."""

    steps: int = Field(default=51_200, ge=1, description="environment steps over all copies")
    row: int = Field(default=2048, ge=1, description="environment steps between two rows: an on-policy iteration")
    copies: int = Field(default=8, ge=1, description="environments side by side")


def trained(contender: Contender, tasks: GymTasks, budget: Budget, seed: int) -> Course:
    """One training, from first weights that the seed names."""
    if isinstance(contender, Peer):
        experiment = Experiment(tasks=tasks, learner=OnPolicyGym.example(), task_batch=1, seed=seed, device="cpu")
        [task] = tasks.sample(experiment.begin().family, 1, experiment.root).tasks
        return contender.train(task, budget.steps, seed=seed, copies=budget.copies, batch=budget.row)
    experiment = Experiment(tasks=tasks, learner=fitted(contender, budget), task_batch=1, seed=seed, device="cpu")
    before = contender.warmup if isinstance(contender, OffPolicyGym) else 0
    rows, progress = [], experiment.begin()
    while not experiment.ended(progress):
        progress = experiment.advance(progress)
        assert progress.outcome is not None
        means = {name: float(value) for name, value in progress.outcome.means().items()}
        rows.append({"steps": float(before + progress.step * budget.row), **means})
    return rows


def budget_of(learner: OnPolicyGym | OffPolicyGym) -> Budget:
    """What a learner spends on one task."""
    if isinstance(learner, OffPolicyGym):
        steps = learner.warmup + learner.steps * learner.sgd_steps
        return Budget(steps=steps, row=learner.sgd_steps, copies=learner.copies)
    return Budget(steps=learner.steps * learner.batch, row=learner.batch, copies=learner.copies)


def fitted(contender: OnPolicyGym | OffPolicyGym, budget: Budget) -> OnPolicyGym | OffPolicyGym:
    """The learner with as many iterations as the budget has."""
    if isinstance(contender, OffPolicyGym):
        return contender.but(
            steps=(budget.steps - contender.warmup) // budget.row, sgd_steps=budget.row, copies=budget.copies
        )
    return contender.but(steps=budget.steps // budget.row, batch=budget.row, copies=budget.copies)


def contest(
    contenders: Mapping[str, Contender],
    tasks: GymTasks,
    budget: Budget,
    seeds: Sequence[int],
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, list[Course]]:
    """All contenders on all seeds, in as many processes as there are processors (two at most)."""
    jobs = [(contender, seed) for contender in contenders.values() for seed in seeds]
    workers = min(2, os.cpu_count() or 1)
    small = workers == 1 or budget.steps * len(jobs) < WORTH_A_PROCESS
    executor = InProcess() if small else ProcessPool(workers=workers)
    found: dict[int, Course] = {}
    for position, course in executor.map(partial(_job, tasks, budget), jobs):
        found[position] = course
        if on_progress is not None:
            on_progress(len(found) / len(jobs))
    return {name: [found[i * len(seeds) + j] for j in range(len(seeds))] for i, name in enumerate(contenders)}


def _job(tasks: GymTasks, budget: Budget, job: tuple[Contender, int]) -> Course:
    return trained(job[0], tasks, budget, job[1])


WORTH_A_PROCESS = 10_000
"""Environment steps of all trainings together, below which starting processes takes longer than it saves."""
