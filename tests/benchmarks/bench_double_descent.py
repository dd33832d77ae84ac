"""A sweep of random feature fits beside numpy's `lstsq`, fit by fit: the same digits, features and test errors.

Three seeds by twelve widths on both sides. `lstsq` gives the end of gradient descent; ours is timed with that one
budget and with eight of them, which share one decomposition for each seed and width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from common import arguments, compare, report
from metaloop.experiment import Experiment
from metaloop_double_descent.features import RCOND, designs
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.random_features import RandomFeatures

WIDTHS = (20, 40, 80, 120, 160, 190, 200, 210, 240, 300, 400, 800)
SEEDS = (0, 1, 2)


def sweep(*steps: float) -> Experiment:
    """All seeds and widths with some budgets."""
    settings = tuple(Factors(steps=budget) for budget in steps)
    family = Widths(widths=WIDTHS, settings=settings, seeds=SEEDS)
    return Experiment(
        tasks=family,
        learner=RandomFeatures(),
        task_batch=None,
        eval_tasks=family.size,
        precision="float64",
        device="cpu",
    )


class OneByOne:
    """Features as ours, then `numpy.linalg.lstsq` for each seed and width."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.errors: dict[tuple[int, int], float] = {}

    def __call__(self) -> None:
        family, learner = self.experiment.tasks, self.experiment.learner
        assert isinstance(family, Widths)
        assert isinstance(learner, RandomFeatures)
        with self.experiment.scope():
            points = family.sample(self.experiment.begin().family, family.size, self.experiment.root).tasks
            problem = learner.problem(points, self.experiment.root)
            for design in designs(points, problem.data.support_x, problem.which):
                query = design.features(problem.data.query_x[design.data])
                for row, own in zip(design.rows.tolist(), design.which.tolist(), strict=True):
                    layer = np.linalg.lstsq(design.support[own].numpy(), problem.support_y[row].numpy(), rcond=RCOND)[0]
                    error = np.square(query[own].numpy() @ layer - problem.query_y[row].numpy()).sum(-1).mean()
                    self.errors[int(points.seed[row]), design.width] = float(error)


def deviation(experiment: Experiment, theirs: OneByOne) -> float:
    """Largest relative difference of test errors."""
    progress = experiment.advance(experiment.begin())
    assert progress.outcome is not None
    points = experiment.tasks.sample(progress.family, experiment.batch, experiment.root).tasks
    rows = zip(points.seed.tolist(), points.width.tolist(), progress.outcome.loss.tolist(), strict=True)
    return max(abs(loss / theirs.errors[seed, width] - 1) for seed, width, loss in rows)


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", rounds=10)
    end, eight = sweep(math.inf), sweep(1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, math.inf)
    theirs = OneByOne(end)
    rows = [
        compare(name, ("metaloop", lambda own=own: own.advance(own.begin())), ("lstsq", theirs), rounds=given.rounds)  # type: ignore[misc]
        for name, own in (("the end of gradient descent", end), ("eight budgets beside that one", eight))
    ]
    facts: dict[str, Any] = {"largest relative difference of test errors": deviation(end, theirs)}
    with torch.no_grad():
        report(f"Double descent: {len(SEEDS)} seeds, {len(WIDTHS)} widths", rows, facts, given)


if __name__ == "__main__":
    main()
