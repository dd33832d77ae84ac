"""Jobs at the gpu profile's shapes for one step, and what stages refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from metaloop import Experiment, Pipeline, UserError
from metaloop.overrides import override
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_gpicl import jobs
from metaloop_gpicl.grids import Ladder, Plateau, Transition
from metaloop_gpicl.plugin import SPEC
from metaloop_gpicl.projection import BiasedTasks
from metaloop_gpicl.stages import LearningCurves

PICTURES = {
    "gpicl": {"curves.png", "training.png"},
    "gpicl/causal": {"formats.png"},
    "gpicl/transition": {"transition.png"},
    "gpicl/ladder": {"ladder.png"},
    "gpicl/plateau": {"plateau.png"},
}


def dry(name: str, profile: str = "gpu") -> Pipeline:
    job = next(job for job in SPEC.jobs if job.id == name)
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])(profile)
    return override(made, list(job.dry))


@pytest.mark.parametrize("name", PICTURES)
def test_one_step_at_the_papers_shapes(name: str, tmp_path: Path) -> None:
    result = dry(name).run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == PICTURES[name]
    assert all(path.stat().st_size > 5000 for path in result.run.artifacts())
    assert len(result.closing) == 1
    json.dumps(result.summary)


def test_the_papers_settings() -> None:
    train = jobs.curves("gpu").stages["gpicl"]
    learner, tasks = train.learner, train.tasks
    assert (learner.format, learner.width, learner.layers, learner.heads) == ("causal", 512, 4, 8)
    assert (tasks.ways, tasks.shots + tasks.queries, tasks.n_tasks) == (10, 100, 2**16)
    assert (train.steps, train.task_batch) == (100_000, 512)
    assert (train.meta_optimizer.lr, train.meta_optimizer.options, train.meta_optimizer.clip) == (
        2e-4,
        {"eps": 1e-10},
        2,
    )
    base = jobs.transition("gpu").stages["transition"]
    assert (base.exponents[0], base.exponents[-1], base.widths[0], base.widths[-1]) == (0, 24, 8, 512)


def test_learners_are_compared_at_equal_budgets_and_judged_on_what_none_has_seen() -> None:
    stages = jobs.curves().stages
    trainings = [stage for stage in stages.values() if isinstance(stage, Experiment)]
    assert len(trainings) == 3
    assert len({(e.steps, e.task_batch, e.tasks.model_dump_json()) for e in trainings}) == 1
    for experiment in trainings:
        judged = experiment.eval_on
        assert (experiment.tasks.data.part, judged.data.part) == ("train", "held-out")
        assert judged.seed != experiment.tasks.seed


def test_the_plateaus_variants_differ_in_one_thing_each() -> None:
    stage = jobs.plateau().stages["plateau"]
    variants = stage.variants()
    assert {name: e.task_batch for name, e in variants.items()} == {
        "as it is": 32,
        "larger batch": 64,
        "fixed labels": 32,
        "fixed labels until learned": 32,
        "fixed task": 32,
    }
    assert [isinstance(e.tasks, BiasedTasks) for e in variants.values()] == [False, False, True, True, True]
    assert len({e.eval_on.model_dump_json() for e in variants.values()}) == 1  # all are judged on tasks without bias
    assert variants["fixed labels until learned"].tasks.drop_below == 0.9


def test_stages_say_what_they_need(tmp_path: Path) -> None:
    lines = Experiment(tasks=LinearRegression(), learner=Ridge(), steps=1, task_batch=2)
    base = jobs.training(1, task_batch=2)
    refused: list[tuple[Any, str]] = [
        (LearningCurves(), "'gpicl' is no experiment"),
        (Transition(base=lines), "must train a gpicl/transformer"),
        (Ladder(base=base, learners=(Ridge(ways=5),)), "Ridge is no learner of gpicl"),
        (Plateau(base=base.but(tasks=BiasedTasks())), "without bias"),
    ]
    for stage, reason in refused:
        with pytest.raises(UserError, match=reason):
            Pipeline(stages={"stage": stage}).run(root=tmp_path, quiet=True)
