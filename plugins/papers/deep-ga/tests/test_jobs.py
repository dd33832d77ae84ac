"""Jobs at the gpu profile's shapes for one step, and what stages say they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from metaloop import Experiment, Pipeline, UserError
from metaloop.overrides import override
from metaloop_deep_ga import jobs
from metaloop_deep_ga.ga import DeepGA
from metaloop_deep_ga.plugin import SPEC
from metaloop_deep_ga.stages import Endings, Progress

PICTURES = {
    "deep-ga": {"maze.png", "distance.png"},
    "deep-ga/control": {"progress.png"},
    "deep-ga/atari": {"progress.png"},
}


def dry(name: str) -> Pipeline:
    job = next(job for job in SPEC.jobs if job.id == name)
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])("gpu")
    return override(made, job.dry)


@pytest.mark.parametrize("name", PICTURES)
def test_one_step_at_the_papers_shapes(name: str, tmp_path: Path) -> None:
    if name.endswith("atari"):
        pytest.importorskip("ale_py")
    if name.endswith("control"):
        pytest.importorskip("mujoco")
    result = dry(name).run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == PICTURES[name]
    assert all(path.stat().st_size > 5000 for path in result.run.artifacts())
    assert result.closing
    json.dumps(result.summary)
    if name.endswith("atari"):
        assert result.summary["ga"]["compression"] > 1e6
        assert result.summary["dqn"]["actions"] == 40 or result.summary["dqn"]["test"] is None


def test_the_papers_settings() -> None:
    atari = jobs.atari("gpu").stages["ga"]
    found: Any = atari.meta_optimizer
    assert (found.population, found.parents, found.sigma) == (1000, 20, 0.002)
    assert (found.candidates, found.validations) == (10, 30)
    learner: Any = atari.learner
    assert (learner.model.size, learner.max_steps, learner.initialisation) == ("large", 5000, "fan_in")
    assert jobs.atari("gpu").stages["random"].meta_optimizer == found.but(parents=0)
    walker: Any = jobs.control("gpu").stages["ga"]
    assert (walker.meta_optimizer.population, walker.meta_optimizer.parents) == (12_500, 625)
    assert (walker.meta_optimizer.sigma, walker.learner.episodes) == (0.00224, 5)


def test_stages_say_what_they_need(tmp_path: Path) -> None:
    unrecorded = Experiment(
        tasks=jobs.MAZE,
        learner=jobs.NAVIGATOR.but(max_steps=2),
        meta_optimizer=DeepGA(population=2, validations=0),
        steps=1,
        task_batch=1,
    )
    cases: list[tuple[dict[str, Any], str]] = [
        ({"endings": Endings(searches=("ga",))}, "'ga' is no earlier search"),
        ({"progress": Progress(searches=("ga",))}, "'ga' is no earlier search"),
        ({"ga": unrecorded, "endings": Endings(searches=("ga",))}, "recorded no endings"),
    ]
    for stages, reason in cases:
        with pytest.raises(UserError, match=reason):
            Pipeline(stages=stages).run(root=tmp_path, quiet=True)
