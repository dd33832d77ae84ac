"""The compositions that the README shows, and that they do what it says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from metaloop import Experiment
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_basics.tasks.table import TableEpisodes
from metaloop_double_descent.early_stopping import EarlyStopping
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.random_features import RandomFeatures


@pytest.mark.parametrize("begin", [3.0, 30_000.0])
def test_when_to_stop_is_learned_by_the_gradient_on_a_real_table(begin: float, tmp_path: Path) -> None:
    rows = TableEpisodes(source="diabetes", split="train", shots=30, queries=30)
    learner = EarlyStopping(width=30, factors=Factors(steps=begin, lr=0.5, standardise=True))
    experiment = Experiment(
        tasks=rows,
        eval_on=rows.but(split="test"),
        learner=learner,
        meta_optimizer=Gradient(lr=0.3),
        steps=40,
        task_batch=8,
        eval_tasks=40,
        device="cpu",
    )
    result = experiment.run(root=tmp_path, quiet=True)
    learned = experiment.evaluate(result.theta).loss.mean()
    at_begin = experiment.evaluate(learner.init(rows.spec, experiment.root)).loss.mean()
    exact = experiment.but(learner=RandomFeatures(width=30, factors=Factors(standardise=True)), meta_optimizer=None)
    assert float(learned) < 0.9 * float(at_begin)
    assert float(learned) < 0.5 * float(exact.evaluate({}).loss.mean())
    assert 5 < float(result.theta["log_steps"].exp()) < 5000


def test_ridge_and_random_features_stand_side_by_side_on_tasks_of_the_basics(tmp_path: Path) -> None:
    tasks = LinearRegression(law="normal", inputs=5, shots=40, queries=40, weight_scale=5**-0.5, noise=0.5)

    def loss(learner: RandomFeatures | Ridge) -> float:
        return float(Experiment(tasks=tasks, learner=learner, task_batch=50, device="cpu").evaluate({}).loss.mean())

    ridge = loss(Ridge(penalty=1.0))
    at_threshold, wide = (loss(RandomFeatures(width=width)) for width in (40, 400))
    stopped = loss(RandomFeatures(width=40, factors=Factors(steps=300.0)))
    assert ridge < wide < 0.3 * at_threshold
    assert stopped < 0.3 * at_threshold


def test_the_grid_takes_any_data_with_real_targets(tmp_path: Path) -> None:
    grid = Widths(widths=(15, 30, 90), settings=(Factors(), Factors(steps=100.0)), seeds=(0, 1, 2))
    for data in (TableEpisodes(shots=30, queries=100), NoisyImages(shots=30), LinearRegression(shots=30)):
        experiment = Experiment(tasks=grid, learner=RandomFeatures(data=data), task_batch=None, device="cpu")
        rows = experiment.run(root=tmp_path, quiet=True).table()
        exact = rows[rows["steps"] == math.inf].groupby("width")["loss"].median()
        assert exact[30] > exact[90]
