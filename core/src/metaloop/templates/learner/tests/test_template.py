"""What metaloop asks of every plugin and learner, and what this learner promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from metaloop import Episode, Experiment, Incompatible, Key, testing
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_template import jobs
from metaloop_template.learner import TemplateLearner

TASKS = LinearRegression(inputs=2, shots=6, queries=4)


@testing.parametrize("template", TemplateLearner.example(), TemplateLearner(steps=0), tasks=TASKS)
def test_conforms(check: Callable[[], None]) -> None:
    check()


def test_one_step_is_the_one_worked_out_by_hand() -> None:
    """From zero, at x = 1, y = 2: the error's slope is -4 in both weights."""
    x, y = torch.ones(1, 1, 1), torch.full((1, 1, 1), 2.0)
    theta = {"start": torch.zeros(2, 1), "log_lr": torch.tensor(0.1).log()}
    _, state = TemplateLearner(steps=1).live(theta, Episode(x, y, x, y), Key.of(0).split(1))
    torch.testing.assert_close(state, torch.full((1, 2, 1), 0.4))


def test_meta_learning_helps() -> None:
    experiment = jobs.main("cpu").but(device="cpu")
    progress = experiment.begin()
    before = float(experiment.evaluate(progress.theta).loss.mean())
    for _ in range(100):
        progress = experiment.advance(progress)
    assert float(experiment.evaluate(progress.theta).loss.mean()) < 0.5 * before


def test_classes_are_refused_when_the_experiment_is_built() -> None:
    with pytest.raises(Incompatible, match="real targets"):
        Experiment(tasks=FewShotDigits.example(), learner=TemplateLearner())
