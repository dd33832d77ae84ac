"""What a run leaves behind: theta, history and predictors, in every precision, at once and later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Experiment, load
from metaloop.errors import UserError
from metaloop.specs import Spec
from metaloop.testing.toys import Climb, Fit, Lines, Words
from torch import nn

from .methods import Sgd, small
from .parts import same


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_precision_holds_for_theta_tasks_and_history_and_ends_with_the_run(precision: Any) -> None:
    experiment = small(precision=precision, tasks=Lines(), learner=Fit(lr=0.05), eval_tasks=2)
    result = experiment.run(quiet=True)
    dtype = torch.float64 if precision == "float64" else torch.float32
    assert all(value.dtype == dtype for value in result.theta.values())
    assert torch.get_default_dtype() == torch.float32
    loss = experiment.evaluate(result.theta).loss
    assert loss.dtype == (dtype if precision == "float64" else loss.dtype)
    if precision == "float64":
        assert result.summary["eval/loss"] == loss.mean().item()  # all digits
        assert result.summary["eval/loss"] != float(loss.float().mean())
    loaded = load(result.run, experiment)
    same(loaded.theta, result.theta)
    x = torch.linspace(-1, 1, 5)[:, None]
    predicted = result.predictor.adapt(x, 2 * x + 1)(x)  # float32, as people have it
    assert predicted.shape == (5, 1)
    assert bool(predicted.isfinite().all())


def test_bfloat16_computes_in_bfloat16_and_learns() -> None:
    def losses(precision: Any) -> list[float]:
        result = small(precision=precision, tasks=Lines(), learner=Fit(lr=0.05), steps=40).run(quiet=True)
        return [row["loss"] for row in result.history]

    full, half = losses("float32"), losses("bfloat16")
    assert full != half
    assert half == losses("bfloat16")
    assert half[-1] < 0.5 * half[0]
    assert half[:5] == pytest.approx(full[:5], rel=0.05)


def test_a_result_is_usable_straight_away_and_later() -> None:
    class Named(Fit):
        def module_for(self, spec: Spec) -> nn.Module:
            return nn.Linear(1, 1)

    experiment = Experiment(
        name="lines", tasks=Lines(), learner=Named(steps=5, lr=0.2), meta_optimizer=Sgd(lr=0.1), steps=30, eval_tasks=4
    )
    result = experiment.run(quiet=True)
    assert result.path.name.startswith("lines-")
    assert {"loss", "fitness", "eval/loss", "steps", "seconds", "evaluations", "inner_steps"} <= result.summary.keys()
    frame = result.to_dataframe()
    assert list(frame["step"]) == list(range(1, 31))
    assert frame["eval/loss"].notna().sum() == 1
    assert frame["loss"].tolist() == [row["loss"] for row in result.history if "loss" in row]
    assert [axes.get_ylabel() for axes in result.plot().axes] == ["eval/loss", "loss"]
    assert [axes.get_ylabel() for axes in result.plot("fitness").axes] == ["fitness"]
    with pytest.raises(UserError, match="no metric 'los'"):
        result.plot("los")
    module = result.module()
    assert isinstance(module, nn.Linear)
    assert torch.equal(module.weight, result.theta["weight"])
    assert module.weight.requires_grad
    x = torch.linspace(-1, 1, 20)[:, None]
    adapted = result.predictor.adapt(x, 2 * x + 0.5)
    assert float((adapted(x) - 2 * x - 0.5).abs().max()) < float((module(x) - 2 * x - 0.5).abs().max())
    same(result.predictor.adapt(x, 2 * x, seed=3)(x), result.predictor.adapt(x, 2 * x, seed=3)(x))
    for name in (result.run, result.path, str(result.path), result.run.id):
        later = load(name, experiment)
        same(later.theta, result.theta)
        assert later.history == result.history
        assert later.summary == result.summary
    json.loads((result.path / "result.json").read_text())


def test_a_result_says_what_it_lacks() -> None:
    result = small(steps=0).run(quiet=True)
    assert result.to_dataframe().empty
    assert list(result.to_dataframe().columns) == ["step"]
    with pytest.raises(UserError, match="theta is not the parameters of an"):
        result.module()
    with pytest.raises(UserError, match="does not predict"):
        result.predictor.adapt(torch.ones(1, 1), torch.ones(1, 1))


def test_a_run_is_loaded_by_id_alone_where_its_parts_are_registered() -> None:
    from metaloop import plugins
    from metaloop.testing import toys

    with plugins.registered(toys.TOYS):
        experiment = Experiment(tasks=Words(letters=4), learner=Climb(steps=3), task_batch=2, device="cpu")
        result = experiment.run(quiet=True)
        later = load(result.run.id)
        assert later.experiment == experiment
        assert later.progress.carry.state[0].word == result.progress.carry.state[0].word
    with pytest.raises(UserError, match="toys/words"):
        load(result.run.id)
