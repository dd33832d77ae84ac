"""Jobs at the gpu profile's shapes for one step, and real tables from start to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from metaloop import Experiment, Pipeline, UserError
from metaloop.errors import DataError
from metaloop.overrides import override
from metaloop_basics.tasks.regression import Sinusoid
from metaloop_icl_gd import jobs
from metaloop_icl_gd.plugin import SPEC
from metaloop_icl_gd.stages import Alignment
from metaloop_icl_gd.tables import RealTables

PICTURES = {
    "icl-gd": {"training.png", "shifted.png", "weights.png", "iterated.png", "tables.png"},
    "icl-gd/depth": {"shifted.png"},
    "icl-gd/sine": {"functions.png"},
    "icl-gd/separate-tokens": {"copying.png"},
}


def dry(name: str, **more: Any) -> Pipeline:
    job = next(job for job in SPEC.jobs if job.id == name)
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])("gpu")
    return override(made, [*job.dry, *more.items()])


@pytest.mark.parametrize("name", PICTURES)
def test_one_step_at_the_papers_shapes(name: str, tmp_path: Path) -> None:
    result = dry(name).run(root=tmp_path, quiet=True)
    assert {path.name for path in result.run.artifacts()} == PICTURES[name]
    assert all(path.stat().st_size > 5000 for path in result.run.artifacts())
    assert result.closing
    for stage, summary in result.summary.items():
        if "losses" in summary:
            assert all(map(math.isfinite, summary["losses"].values())), stage
    json.dumps(result.summary)


def test_the_papers_settings() -> None:
    one, deep = (jobs.one_layer("gpu").stages["train"], jobs.depth("gpu").stages["train_5"])
    assert (one.steps, one.task_batch, one.meta_optimizer.lr, one.meta_optimizer.clip) == (5000, 2048, 1e-3, 1e-3)
    assert (deep.steps, deep.meta_optimizer.lr, deep.meta_optimizer.clip, deep.learner.clamp) == (50_000, 5e-4, 10, 10)
    assert one.meta_optimizer.options == {"betas": (0.9, 0.98)}
    assert not deep.learner.recurrent
    sine, tokens = jobs.sine("gpu").stages, jobs.separate_tokens("gpu").stages["train"]
    assert (sine["train"].steps, sine["train"].meta_optimizer.lr, sine["descent"].meta_optimizer.lr) == (
        20_000,
        1e-3,
        3e-4,
    )
    assert (tokens.steps, tokens.task_batch, tokens.meta_optimizer.clip, tokens.learner.init_scale) == (
        10_000,
        2048,
        10,
        0.02,
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Forty rows of four numbers and a target that is linear in them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)) * [1.0, 10.0, 0.1, 5.0] + 3.0
    frame = pd.DataFrame(x, columns=list("abcd"))
    frame["price"] = 3.0 * x[:, 0] - 0.2 * x[:, 1] + rng.normal(size=40) * 0.1
    frame["size"] = x[:, 3] * 2.0
    path = tmp_path / "houses.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_users_table_gets_a_layer_of_its_width(table: Path, tmp_path: Path) -> None:
    asked = {"tables.files": [str(table)], "tables.target": "price", "tables.episodes": 200}
    pipeline = dry("icl-gd", **asked)
    result = pipeline.run(root=tmp_path / "runs", quiet=True)
    errors = result.summary["tables"]["houses"]["error"]
    assert set(result.summary["tables"]) == {"diabetes", "houses"}
    assert [child.name for child in result.run.path.glob("children/tables/children/*")] == ["layer-5"]
    # the target is linear, with hardly any noise: an honest table shows ridge at its best and zero near 1
    assert errors["ridge"]["mean"] < 0.2 < errors["GD, table's best step"]["mean"] < errors["zero"]["mean"]
    assert errors["zero"]["mean"] == pytest.approx(1.0, abs=0.3)
    beside = result.summary["tables"]["houses"]["minus trained layer"]["ridge"]
    assert beside["mean"] == pytest.approx(errors["ridge"]["mean"] - errors["trained layer"]["mean"])
    assert beside["low"] < beside["mean"] < beside["high"]
    assert sum("gradient descent's" in str(shown) for shown in result.closing) == 3  # one step is no training


@pytest.mark.parametrize(
    ("spoil", "target", "reason"),
    [
        (lambda frame: frame.assign(b="north"), None, "column 'b' holds text"),
        (lambda frame: frame.assign(b=frame["b"].where(frame.index > 2)), None, "column 'b' has no value in 3 of 40"),
        (lambda frame: frame, "prise", "no column 'prise'"),
    ],
)
def test_tables_that_can_not_be_used_are_refused_before_anything_runs(
    spoil: Any, target: str | None, reason: str, table: Path
) -> None:
    spoil(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(DataError, match=reason):
        RealTables(files=(str(table),), target=target)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        RealTables(files=("nowhere.csv",))


def test_stages_say_what_they_need(tmp_path: Path) -> None:
    train = Experiment(
        tasks=Sinusoid(), learner=jobs.one_step(), meta_optimizer=jobs.adam(1e-3, None), steps=1, task_batch=2
    )
    for stages, reason in (
        ({"alignment": Alignment()}, "'train' is no experiment"),
        ({"train": train, "alignment": Alignment()}, "alignment: compares"),
        ({"train": train, "tables": RealTables()}, "tables: needs"),
    ):
        with pytest.raises(UserError, match=reason):
            Pipeline(stages=stages).run(root=tmp_path, quiet=True)
