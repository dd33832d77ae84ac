"""Jobs at the gpu profile's shapes for one step, the main job cut short, and what stages say they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from metaloop import Pipeline, UserError
from metaloop.overrides import override
from metaloop_adas import jobs
from metaloop_adas.plugin import SPEC
from metaloop_adas.stages import Report


@pytest.mark.parametrize("job", SPEC.jobs, ids=lambda job: job.id)
def test_a_dry_step_of_every_job(job: Any, tmp_path: Path) -> None:
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])("gpu")
    result = override(made, job.dry).run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == {"archive.html", "progress.png"}
    assert result.closing
    json.dumps(result.summary)
    report = result.summary["report"]
    assert report["optimism"] >= 0
    assert report["archive"] >= 5


def test_the_papers_settings() -> None:
    search: Any = jobs.grids("gpu").stages["search"]
    assert (search.steps, search.tasks.count, search.eval_on.count) == (25, 20, 60)
    assert (search.learner.repeats, search.learner.model.chat.max_tokens) == (5, 1024)
    meta = search.meta_optimizer
    assert len(meta.seeds) == 5
    assert (meta.reflections, meta.attempts, meta.samples) == (2, 3, 100_000)
    assert (meta.meta_agent.temperature, meta.meta_agent.chat.model) == (0.8, "gpt-4o-2024-05-13")


def test_stages_say_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'search' is no earlier search"):
        Pipeline(stages={"report": Report()}).run(root=tmp_path, quiet=True)
