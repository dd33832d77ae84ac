"""Sweeps: every point under every seed, each once, whatever happens to the others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaloop import Experiment, Options, ProcessPool, compose
from metaloop.errors import UserError
from metaloop.store import Run
from metaloop.summaries import interval, numbers
from metaloop.sweep import Sweep
from metaloop.testing.toys import Descent, Quadratics
from scipy import stats

pytestmark = pytest.mark.usefixtures("lab")


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(tasks=Quadratics(), learner=Descent(), steps=4, task_batch=2)


def losses(result: Any) -> list[float]:
    return [row["summary"]["loss"] for row in result.rows]


def test_every_point_runs_under_every_seed(experiment: Experiment) -> None:
    sweep = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 0.2), "tasks.dimension": (1, 3)}), seeds=(0, 7))
    result = sweep.run(quiet=True)
    assert [
        (row["settings"]["learner.lr"], row["settings"]["tasks.dimension"], row["seed"]) for row in result.rows
    ] == [(lr, dimension, seed) for lr in (0.1, 0.2) for dimension in (1, 3) for seed in (0, 7)]
    alone = experiment.but(learner=Descent(lr=0.2), tasks=Quadratics(dimension=1), seed=7).run(quiet=True)
    assert result.rows[5]["summary"]["loss"] == alone.summary["loss"]
    assert result.run.status == "finished"
    assert len({row["run"] for row in result.rows}) == 8


def test_the_table_has_mean_and_interval_over_seeds(experiment: Experiment) -> None:
    result = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 0.2)}), seeds=(0, 1, 2)).run(quiet=True)
    points = result.table()
    assert [point["settings"] for point in points] == [{"learner.lr": 0.1}, {"learner.lr": 0.2}]
    loss = points[1]["metrics"]["loss"]
    values = losses(result)[3:]
    low, high = stats.t.interval(0.95, 2, sum(values) / 3, stats.sem(values))
    assert loss == {
        "mean": pytest.approx(sum(values) / 3),
        "low": pytest.approx(low),
        "high": pytest.approx(high),
        "n": 3,
    }
    frame = result.to_dataframe()
    assert list(frame["loss"]) == losses(result)
    assert list(frame["learner.lr"]) == [0.1] * 3 + [0.2] * 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_the_interval_is_students(values: list[float]) -> None:
    found = interval(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert found.high == pytest.approx(found.mean + half, rel=1e-6, abs=1e-6)
    assert found.low == pytest.approx(found.mean - half, rel=1e-6, abs=1e-6)


def test_one_value_or_an_infinite_one_has_no_interval() -> None:
    assert interval([2.0]) == (2.0, None, None, 1)
    assert interval([2.0, math.inf])[1:] == (None, None, 2)


def test_numbers_are_flattened() -> None:
    summary = {"a": 1, "b": {"c": 2.5, "d": {"e": 3}, "f": "text", "g": [1, 2]}, "h": True, "i": None}
    assert dict(numbers(summary)) == {"a": 1, "b.c": 2.5, "b.d.e": 3}


def test_components_and_pipelines_are_swept_too(experiment: Experiment) -> None:
    grid = Options({"learner": ({"component": "lab/descent", "lr": 0.5}, "lab/noisydescent")})
    assert [child.composition.learner.lr for child in Sweep(base=experiment, grid=grid).children] == [0.5, 0.05]  # type: ignore[union-attr]
    pipeline = compose.from_job("lab/pipeline")
    result = Sweep(base=pipeline, grid=Options({"train.learner.lr": (0.1, 0.2)}), seeds=(4,)).run(quiet=True)
    assert [sorted(row["summary"]) for row in result.rows] == [["table", "train"]] * 2
    assert result.table()[0]["metrics"]["table.loss"]["n"] == 1


def test_a_child_that_breaks_does_not_stop_the_others(experiment: Experiment) -> None:
    result = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 1e30, 0.2)}), seeds=(0,)).run(quiet=True)
    assert [row["status"] for row in result.rows] == ["finished", "failed", "finished"]
    assert "not finite" in result.failed[0]["error"]
    assert result.table()[1]["metrics"] == {}
    assert result.run.status == "failed"


def test_resuming_runs_only_what_is_not_finished(experiment: Experiment) -> None:
    sweep = Sweep(base=experiment, seeds=(0, 1, 2))
    first = sweep.run(quiet=True)
    for name in ("001 seed=1", "002 seed=2"):
        child = next(run for run in first.run.children() if run.name == name)
        child.set_status("interrupted")
    kept = next(run for run in first.run.children() if run.name == "000 seed=0")
    before = (kept.path / "run.json").stat().st_mtime_ns
    again = compose.from_document(first.run.config)
    assert again == sweep
    assert losses(again.run(run=first.run, quiet=True)) == losses(first)  # type: ignore[call-overload]
    assert (kept.path / "run.json").stat().st_mtime_ns == before
    assert len(first.run.children()) == 3


def test_out_of_time_stops_resumably(experiment: Experiment) -> None:
    sweep = Sweep(base=experiment.but(steps=10**6), seeds=(0, 1))
    result = sweep.run(max_seconds=0.3, quiet=True)
    assert [row["status"] for row in result.rows] == ["stopped", "stopped"]
    assert result.run.status == "stopped"
    assert len(result.run.children()) == 1


def test_worker_processes_give_the_same_numbers(experiment: Experiment) -> None:
    grid = Options({"learner.lr": (0.1, 1e30)})
    here = Sweep(base=experiment, grid=grid, seeds=(0, 1)).run(quiet=True)
    there = Sweep(base=experiment, grid=grid, seeds=(0, 1), executor=ProcessPool(workers=1)).run(quiet=True)
    assert [(row["status"], row["summary"].get("loss")) for row in there.rows] == [
        (row["status"], row["summary"].get("loss")) for row in here.rows
    ]
    for row in there.failed:
        assert "not finite" in row["error"]
        assert (Run.open(row["run"]).path / "error.txt").is_file()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"grid": {"learner.lr": (0.1, -1)}}, "learner.lr must be greater than 0, got -1."),
        ({"grid": {"learner.lrr": (0.1,)}}, "There is no setting 'learner.lrr'"),
        ({"grid": {"learner.lr": ()}}, "grid: learner.lr needs a list of values"),
        ({"grid": {"learner.lr": 3}}, "grid: learner.lr needs a list of values"),
        ({"grid": {"seed": (1, 2)}}, "seeds are swept by the field seeds"),
        ({"seeds": (1, 1)}, "names one twice"),
    ],
)
def test_what_does_not_compose_is_refused_before_anything_runs(
    experiment: Experiment, lab: Path, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        Sweep(base=experiment, **settings)
    assert sentence in str(error.value)
    assert not lab.exists()
