"""`metaloop compare`, and the curves of runs that differ in nothing but their seed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from metaloop import Experiment, Options, compose
from metaloop.cli import app
from metaloop.groups import alone, differing, grouped
from metaloop.plotting import bands, curves
from metaloop.store import Run
from metaloop.summaries import interval
from metaloop.sweep import Sweep
from metaloop.testing.toys import Descent, Quadratics
from typer.testing import CliRunner

pytestmark = pytest.mark.usefixtures("lab")


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(name="toy", tasks=Quadratics(), learner=Descent(), steps=4, task_batch=2)


def compare(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["compare", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_a_sweep_stands_for_its_points_with_mean_and_interval(experiment: Experiment) -> None:
    result = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 0.2)}), seeds=(0, 1, 2)).run(quiet=True)
    text = compare(result.path).stdout
    assert re.search(r"learner.lr=0.1 +learner.lr=0.2", text)
    assert re.search(r"n = 3 +n = 3", text)
    loss = result.table()[1]["metrics"]["loss"]
    assert f"{loss['mean']:.4g} ({loss['low']:.4g} to {loss['high']:.4g})" in text
    assert re.search(r"steps +4 +4", text)
    assert re.search(r"learner.lr +0.1 +0.2", text)
    assert "seed " not in text.split("learner.lr  ")[-1]
    found = json.loads(compare(result.path, "--json").stdout)
    assert [group["metrics"] for group in found["groups"]] == [point["metrics"] for point in result.table()]
    assert [run["seed"] for run in found["groups"][0]["runs"]] == [0, 1, 2]
    assert [run["run"] for run in found["groups"][1]["runs"]] == [row["run"] for row in result.rows[3:]]
    assert found["settings"] == {"learner.lr": [0.1, 0.2]}


def test_two_groups_with_the_same_seeds_show_the_paired_difference(experiment: Experiment) -> None:
    first = Sweep(name="a", base=experiment, seeds=(0, 1, 2)).run(quiet=True)
    second = Sweep(name="b", base=experiment.but(learner=Descent(lr=0.2)), seeds=(1, 2, 3)).run(quiet=True)
    a, b = ({row["seed"]: row["summary"]["loss"] for row in result.rows} for result in (first, second))
    mean, low, high, _ = interval([b[seed] - a[seed] for seed in (1, 2)])
    text = squeezed(compare(first.path, second.path).stdout)
    assert "difference, same seeds" in text
    assert "second - first, n = 2" in text
    assert f"{mean:.4g} ({low:.4g} to {high:.4g})" in text
    assert "0, 1, 2 1, 2, 3" in text
    found = json.loads(compare(first.path, second.path, "--json").stdout)["difference"]
    assert found["seeds"] == [1, 2]
    assert found["metrics"]["loss"] == {"mean": mean, "low": low, "high": high, "n": 2}


def test_unpaired_groups_and_three_groups_have_no_difference(experiment: Experiment) -> None:
    first = Sweep(base=experiment, seeds=(0, 1)).run(quiet=True)
    second = Sweep(base=experiment.but(learner=Descent(lr=0.2)), seeds=(2, 3)).run(quiet=True)
    third = Sweep(base=experiment.but(learner=Descent(lr=0.3)), seeds=(0, 1)).run(quiet=True)
    for runs in ((first, second), (first, second, third)):
        assert "difference" not in compare(*(run.path for run in runs)).stdout


def test_plain_runs_that_differ_only_in_their_seed_are_one_group(experiment: Experiment) -> None:
    runs = [experiment.but(seed=seed).run(quiet=True).run for seed in (0, 1, 2)]
    other = experiment.but(learner=Descent(lr=0.2)).run(quiet=True).run
    groups = grouped([*runs, other])
    assert [(group.label, group.runs) for group in groups] == [("toy", tuple(runs)), (other.id, (other,))]
    assert differing(groups) == {"learner.lr": [[0.05], [0.2]], "seed": [[0, 1, 2], [0]]}
    assert [group.label for group in alone([*runs, other])] == [run.id for run in (*runs, other)]
    text = compare(*(run.path for run in (*runs, other)), "--each").stdout
    assert re.search(r"seed +0 +1 +2 +0", text)


def test_the_same_seed_twice_is_no_second_sample(experiment: Experiment) -> None:
    runs = [experiment.but(seed=seed).run(quiet=True).run for seed in (0, 1, 0)]
    assert [group.runs for group in grouped(runs)] == [(runs[0], runs[1]), (runs[2],)]
    assert len(json.loads(compare(runs[0].path, runs[0].path, "--json").stdout)["groups"]) == 1


def test_points_that_are_called_the_same_are_told_apart(experiment: Experiment) -> None:
    sweep = Sweep(base=experiment, grid=Options({"learner": (Descent(lr=0.1), Descent(lr=0.2))}), seeds=(0, 1))
    groups = grouped([sweep.run(quiet=True).run])
    assert [group.label for group in groups] == ["learner=lab/descent #0", "learner=lab/descent #2"]
    assert differing(groups) == {"learner.lr": [[0.1], [0.2]]}


def test_a_run_that_broke_is_counted_and_left_out_of_the_mean(experiment: Experiment) -> None:
    result = Sweep(base=experiment, seeds=(0, 1, 2)).run(quiet=True)
    broken = next(run for run in result.run.children() if run.name == "002 seed=2")
    broken.set_status("failed")
    (broken.path / "result.json").unlink()
    text = compare(result.path).stdout
    assert "2 finished, 1 failed" in text
    assert re.search(r"loss +[\d.]+ \(.* to .*\) n = 2", text)


def test_many_points_are_printed_below_each_other(experiment: Experiment) -> None:
    result = Sweep(base=experiment.but(steps=1), grid=Options({"learner.lr": tuple(range(1, 9))}), seeds=(0,))
    text = compare(result.run(quiet=True).path).stdout
    assert text.count("status") == 2
    assert all(f"learner.lr={lr}" in text for lr in range(1, 9))


def history(values: dict[int, float], name: str = "loss") -> list[dict[str, float]]:
    return [{"step": step, name: value} for step, value in values.items()]


def drawn(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}  # type: ignore[arg-type]


def test_curves_are_means_with_bands_over_the_runs_that_have_the_step() -> None:
    group = [history({1: 1.0, 2: 2.0, 3: 4.0}), history({1: 3.0, 2: 4.0})]
    [axes] = bands({"pair": group, "alone": [history({1: 5.0, 2: 6.0})]}).axes
    assert drawn(axes) == {"pair (n = 2)": [(1, 2.0), (2, 3.0), (3, 4.0)], "alone": [(1, 5.0), (2, 6.0)]}
    [band] = axes.collections
    assert isinstance(band, PolyCollection)
    _, low, high, _ = interval([1.0, 3.0])
    corners = set(map(tuple, np.asarray(band.get_paths()[0].vertices).tolist()))
    assert {x for x, _ in corners} == {1.0, 2.0}
    assert {(1.0, low), (1.0, high)} <= corners


def test_a_metric_of_one_step_is_a_point_with_its_interval() -> None:
    [axes] = bands({"pair": [history({5: 1.0}), history({5: 3.0})]}).axes
    _, low, high, _ = interval([1.0, 3.0])
    [bar] = axes.containers
    [[start, end]] = bar.lines[2][0].get_segments()  # type: ignore[attr-defined]
    assert [*start, *end] == pytest.approx([5, low, 5, high])


def test_single_histories_are_plain_lines_without_a_legend() -> None:
    figure = curves({"one": history({1: 1.0, 2: 0.5})})
    assert not figure.legends
    assert not figure.axes[0].collections
    figure = curves({"one": history({1: 1.0, 2: 0.5}), "two": history({1: 2.0}, "eval/loss")})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["two", "one"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["eval/loss", "loss"]


def test_a_sweep_draws_its_points_also_from_the_command_line(experiment: Experiment, lab: Path) -> None:
    sweep = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 0.2)}), seeds=(0, 1))
    [axes] = sweep.run(quiet=True).plot("loss").axes
    assert list(drawn(axes)) == ["learner.lr=0.1 (n = 2)", "learner.lr=0.2 (n = 2)"]
    result = CliRunner().invoke(app, ["run", "lab", "--sweep", "learner.lr=0.1,1e30", "--seeds", "2"])
    assert result.exit_code == 1, result.output
    picture = Run.open("last", lab).path / "artifacts" / "curves.png"
    assert str(picture) in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_stages_of_pipelines_are_drawn_together(tmp_path: Path) -> None:
    pipeline = compose.from_job("lab/pipeline")
    result = Sweep(base=pipeline, seeds=(0, 1)).run(quiet=True)
    [axes] = result.plot().axes
    assert list(drawn(axes)) == ["sweep/train (n = 2)"]
    compare(result.path, "--plot", tmp_path / "curves.svg", "--metric", "loss")
    assert "<svg" in (tmp_path / "curves.svg").read_text()
