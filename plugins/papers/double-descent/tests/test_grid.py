"""Data, the grid, and what is read off its table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from metaloop import Experiment, Key, load
from metaloop.errors import DataError, Incompatible
from metaloop.learner import AnyLearner
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.table import TableEpisodes
from metaloop_double_descent.curves import Region, collapse, peaks, varied
from metaloop_double_descent.early_stopping import EarlyStopping
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.network import TwoLayer
from metaloop_double_descent.random_features import RandomFeatures


def test_images_have_wrong_labels_to_learn_from_and_right_ones_to_be_judged_on() -> None:
    clean, noisy = NoisyImages(noise=0.0), NoisyImages(noise=0.2)
    assert clean.spec.inputs == (61,)  # of 64 pixels three never change
    a, b = (family.sample({}, 20, Key.of(0)).tasks for family in (clean, noisy))
    assert torch.equal(a.support_x, b.support_x)
    assert torch.equal(a.query_y, b.query_y)
    changed = (a.support_y.argmax(-1) != b.support_y.argmax(-1)).float().mean()
    assert float(changed) == pytest.approx(0.2, abs=0.03)
    assert torch.allclose(b.support_y.sum(-1), torch.zeros(20, 200), atol=1e-6)
    both = torch.cat([a.support_x, a.query_x], 1)[0]
    assert len(both.unique(dim=0)) == len(both)  # nothing learned from is judged on
    images = FewShotDigits(classes=tuple(range(10))).images(torch.device("cpu"))
    first = (images.pixels.flatten(1)[:, None] - 0).squeeze(1)
    keep = (first != first[0]).any(0)
    found = (first[:, keep] == a.query_x[0, 0]).all(1).nonzero().flatten()
    label = torch.arange(10).repeat_interleave(images.counts)[found]
    assert label.tolist() == [int(a.query_y[0, 0].argmax())]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="there are 1797 images, and a task takes 2500"):
        NoisyImages(shots=500, queries=2000).spec  # noqa: B018


def test_the_table_of_a_grid_has_every_setting_at_every_width_for_every_seed(tmp_path: Path) -> None:
    settings = (Factors(steps=10.0, lr=0.1), Factors(standardise=True))
    family = Widths(widths=(5, 9, 30), settings=settings, seeds=(4, 7))
    experiment = Experiment(
        tasks=family, learner=RandomFeatures(data=NoisyImages(shots=20, queries=30)), task_batch=None, device="cpu"
    )
    result = experiment.run(root=tmp_path, quiet=True)
    found = result.table()
    assert len(found) == 12
    assert set(zip(found["width"], found["seed"], found["lr"], strict=True)) == {
        (width, seed, factors.lr) for width in (5, 9, 30) for seed in (4, 7) for factors in settings
    }
    exact = found.query("steps == inf and width == 30")
    assert exact["standardise"].all()
    assert (exact["train_loss"] < 1e-9).all()
    assert (exact["rank"] == 20).all()
    assert {"loss", "fitness", "train_loss", "condition", "rank", "error"} <= set(found.columns)
    assert load(result.path, experiment).table().equals(found)
    assert load(result.path).experiment == experiment  # by its parts' registered ids alone


def test_rows_do_not_depend_on_what_else_is_in_the_grid(tmp_path: Path) -> None:
    learner = RandomFeatures(data=NoisyImages(shots=20, queries=30))
    small = Widths(widths=(9,), settings=(Factors(steps=10.0),), seeds=(7,))
    large = Widths(widths=(5, 9), settings=(Factors(), Factors(steps=10.0)), seeds=(4, 7))

    def loss(family: Widths) -> float:
        experiment = Experiment(tasks=family, learner=learner, task_batch=None, device="cpu", precision="float64")
        rows = experiment.run(root=tmp_path, quiet=True).table()
        return float(rows.query("steps == 10 and width == 9 and seed == 7")["loss"].item())

    assert loss(small) == pytest.approx(loss(large), rel=1e-12)


@pytest.mark.parametrize(
    "learner", [FeatureDescent(momentum=0.5), FeatureAdam(), TwoLayer()], ids=["momentum", "Adam", "network"]
)
def test_rows_of_different_budgets_in_one_grid_end_as_each_does_alone(learner: AnyLearner, tmp_path: Path) -> None:
    def losses(*budgets: int) -> list[float]:
        settings = tuple(Factors(steps=float(steps), lr=0.01) for steps in budgets)
        experiment = Experiment(
            tasks=Widths(widths=(5, 9), settings=settings, seeds=(7,)),
            learner=learner.but(steps=max(budgets), data=NoisyImages(shots=20, queries=30)),
            task_batch=None,
            steps=max(budgets),
            device="cpu",
            precision="float64",
        )
        return list(experiment.run(root=tmp_path, quiet=True).table()["loss"])

    together, alone = losses(2, 7, 4), [*losses(2), *losses(7), *losses(4)]
    assert together == pytest.approx(alone, rel=1e-9)
    assert len(set(alone)) == 6


def test_compositions_that_can_not_work_say_why() -> None:
    grid = Widths(widths=(3,))
    with pytest.raises(Incompatible, match="use double-descent/images"):
        Experiment(tasks=FewShotDigits(), learner=RandomFeatures())
    with pytest.raises(Incompatible, match="use double-descent/images"):
        Experiment(tasks=grid, learner=RandomFeatures(data=FewShotDigits()))
    with pytest.raises(Incompatible, match="a grid's rows have theirs"):
        Experiment(tasks=grid, learner=EarlyStopping())
    with pytest.raises(Incompatible, match="finite steps to begin at"):
        Experiment(tasks=TableEpisodes(), learner=EarlyStopping(factors=Factors()))
    with pytest.raises(Incompatible, match="not from GridSpec"):
        Experiment(tasks=grid, learner=Ridge())


def test_peaks_are_read_off_a_table() -> None:
    rows = pd.DataFrame(
        {
            "width": [50, 100, 150, 400] * 2,
            "seed": [0] * 4 + [1] * 4,
            "loss": [2.0, 8.0, 6.0, 4.0, 1.0, 2.0, 3.0, 4.0],
            "train_loss": [1.0, 0.1, 0.001, 1e-9] * 2,
        }
    )
    found = peaks(rows, Region(100), by=("seed",))
    assert found["height"].tolist() == [2.0, 0.75]
    assert found["contrast"].tolist() == [4.0, 3.0]
    assert found["train_loss"].tolist() == pytest.approx([0.01, 0.01])
    assert math.isnan(peaks(rows.query("width > 60"), Region(100), by=("seed",))["contrast"][0])


def test_what_a_row_varies_is_named() -> None:
    plain = Factors(steps=5.0)
    assert varied(plain.model_dump()) == "steps"
    assert varied(plain.but(standardise=True, lr=0.5).model_dump()) == "lr + standardise"


def test_one_falling_curve_explains_what_lies_on_one() -> None:
    rng = np.random.default_rng(0)
    loss = 10.0 ** rng.uniform(-6, 0, 60)
    factor = [("a", "b", "c")[i % 3] for i in range(60)]
    exact = collapse(loss, loss**-0.3, factor)
    assert exact.rank_correlation == -1.0
    assert exact.explained == pytest.approx(1.0)
    assert exact.left_out > 0.95
    shuffled = collapse(rng.permutation(loss), loss**-0.3, factor)
    assert abs(shuffled.rank_correlation) < 0.4
    assert shuffled.left_out < 0.3
