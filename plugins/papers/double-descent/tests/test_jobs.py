"""Jobs at the gpu profile's widths for one step, and the main job small from start to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from metaloop import Pipeline, UserError
from metaloop.overrides import override
from metaloop_double_descent import jobs
from metaloop_double_descent.plugin import SPEC


def made(name: str, profile: str, **more: Any) -> Pipeline:
    job = next(job for job in SPEC.jobs if job.id == name)
    built: Pipeline = getattr(jobs, job.target.partition(":")[2])(profile)
    return override(built, [*(job.dry if profile == "gpu" else ()), *more.items()])


@pytest.mark.parametrize("name", ["double-descent", "double-descent/networks"])
def test_one_step_at_the_widths_of_the_gpu_profile(name: str, tmp_path: Path) -> None:
    result = made(name, "gpu", device="cpu").run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == {"double-descent.png", "table.csv"}
    assert result.closing
    rows = pd.read_csv(result.run.path / "artifacts" / "table.csv")
    assert rows["width"].max() == 4000
    assert len(rows) == result.summary["picture"]["rows"]
    json.dumps(result.summary)


def test_the_main_job_shows_the_peak_where_optimization_is_exact_and_not_where_it_stops_early(tmp_path: Path) -> None:
    grids, iterated = ("curves", "factors", "sgd", "momentum", "adam"), ("sgd", "momentum", "adam")
    cuts: dict[str, Any] = {f"stages.{name}.tasks.seeds": [0, 1] for name in grids}
    cuts |= {f"stages.{name}.learner.data.shots": 40 for name in grids}
    cuts |= {f"stages.{name}.tasks.widths": [36, 40, 44, 60, 160] for name in grids[1:]}
    cuts |= {f"stages.{name}.learner.steps": 20 for name in iterated}
    cuts |= {"stages.curves.tasks.widths": [10, 20, 40, 60, 160], "stages.picture.threshold": 40}
    result = made("double-descent", "cpu", **cuts, device="cpu").run(root=tmp_path, quiet=True)
    found = result.summary["picture"]
    heights = {row["name"]: row["height"] for row in found["configurations"]}
    assert heights["exact"] > 5
    assert heights["GD, T=$10^{2}$"] < 1.5
    assert found["collapse"]["rank_correlation"] < -0.7
    names = set(pd.read_csv(result.run.path / "artifacts" / "table.csv")["name"])
    assert {"exact", "SGD, batch 8, T=20", "momentum, T=20", "Adam, T=20, lr=0.1"} <= names


def test_the_settings_of_the_gpu_profile() -> None:
    stages = jobs.random_features("gpu").stages
    assert max(stages["curves"].tasks.widths) == 40_000
    assert stages["curves"].learner.data.shots == 4000
    assert len(stages["curves"].tasks.seeds) == 5
    nets = jobs.networks("gpu").stages["adam"]
    assert (max(nets.tasks.widths), nets.total_steps, len(nets.tasks.seeds)) == (4096, 100_000, 5)


@pytest.mark.parametrize("make", [jobs.diabetes, jobs.teacher])
def test_other_data_are_a_job_away(make: Any, tmp_path: Path) -> None:
    pipeline = make()
    grid = pipeline.stages["curves"]
    small = grid.but(tasks=grid.tasks.but(widths=(100, 200, 400), seeds=(0,)), device="cpu")
    rows = small.run(root=tmp_path, quiet=True).table()
    exact = rows[rows["steps"] == math.inf].set_index("width")["loss"]
    assert exact[200] > 2 * exact[400]


def test_the_picture_says_what_it_needs(tmp_path: Path) -> None:
    pipeline = made("double-descent", "cpu")
    alone = pipeline.but(stages={"picture": pipeline.stages["picture"]})
    with pytest.raises(UserError, match="'factors' is no grid before this stage"):
        alone.run(root=tmp_path, quiet=True)
