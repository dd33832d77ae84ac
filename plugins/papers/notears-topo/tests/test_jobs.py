"""The jobs, small, from start to end, and the gpu profile's widths for one round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from metaloop import Pipeline, UserError
from metaloop.overrides import override
from metaloop_notears_topo import jobs
from metaloop_notears_topo.plugin import SPEC


def made(name: str, profile: str, **more: Any) -> Pipeline:
    job = next(job for job in SPEC.jobs if job.id == name)
    built: Pipeline = getattr(jobs, job.target.partition(":")[2])(profile)
    return override(built, [*(job.dry if profile == "gpu" else ()), *more.items()])


def test_the_main_job_shows_graphs_scores_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "installed", lambda package: False)
    pipeline = made("notears-topo", "cpu", device="cpu")
    assert {"er2", "er4", "sf4", "er2-standardised", "wine-kkt", "diabetes-random"} < set(pipeline.stages)
    cuts: dict[str, Any] = {f"stages.{name}.tasks.seeds": [0, 1] for name in ("er2", "er4", "sf4", "er2-standardised")}
    cuts |= {f"stages.{name}.tasks.copies": 2 for name in pipeline.stages if "-kkt" in name or "-random" in name}
    cuts |= {"stages.er4.learner.steps": 2, "stages.sf4.learner.steps": 2}
    result = made("notears-topo", "cpu", device="cpu", **cuts).run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == {"graphs.png", "scores.png", "table.csv"}
    found = result.summary["recovery"]["searches"]
    assert found["er2"]["gap"] < 0.01
    assert found["er2"]["shd"] <= found["er2-standardised"]["shd"]
    assert found["wine-kkt"]["shd"] is None
    rows = pd.read_csv(result.run.path / "artifacts" / "table.csv")
    assert len(rows) == result.summary["recovery"]["rows"] == 16
    json.dumps(result.summary)


@pytest.mark.parametrize("name", ["notears-topo", "notears-topo/nonlinear"])
def test_one_round_at_the_widths_of_the_gpu_profile(name: str, tmp_path: Path) -> None:
    result = made(name, "gpu", device="cpu").run(root=tmp_path, quiet=True)
    rows = pd.read_csv(result.run.path / "artifacts" / "table.csv")
    assert rows["rounds"].max() == 1
    assert len(rows) == (6 if name == "notears-topo" else 1)


def test_the_recovery_says_what_it_needs(tmp_path: Path) -> None:
    pipeline = made("notears-topo/table", "cpu", device="cpu")
    with pytest.raises(UserError, match="'topo' found no graphs before this stage"):
        pipeline.but(stages={"recovery": pipeline.stages["recovery"]}).run(root=tmp_path, quiet=True)
