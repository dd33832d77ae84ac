"""What metaloop asks of every plugin and learner, and what this paper's method promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metaloop import Episode, Experiment, Incompatible, Key, UserError, testing
from metaloop.pipeline import Pipeline
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_template import jobs
from metaloop_template.learner import TemplateLearner
from metaloop_template.stages import TemplateCompare

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


def test_classes_are_refused_when_the_experiment_is_built() -> None:
    with pytest.raises(Incompatible, match="real targets"):
        Experiment(tasks=FewShotDigits.example(), learner=TemplateLearner())


def test_the_main_job_leaves_its_numbers_and_its_picture(tmp_path: Path) -> None:
    job = jobs.main("cpu")
    short = Pipeline(stages={"train": jobs.training(20), "compare": job.stages["compare"]}, device="cpu")
    result = short.run(root=tmp_path, quiet=True)
    losses = json.loads(json.dumps(result["compare"]))["losses"]
    assert losses["ridge"] < losses["trained"] < losses["before training"]
    assert list(tmp_path.rglob("training.png"))


def test_a_comparison_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs an earlier stage 'train'"):
        Pipeline(stages={"compare": TemplateCompare()}).run(root=tmp_path, quiet=True)
