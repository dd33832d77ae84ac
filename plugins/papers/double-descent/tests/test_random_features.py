"""Random features beside gradient descent by hand, numpy, scikit-learn and torch's own optimisers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from metaloop import Episode, Key, UserError
from metaloop.precision import default_dtype
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.features import RCOND, designs
from metaloop_double_descent.grid import Factors, Point, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.random_features import FeatureModel, RandomFeatures
from sklearn.linear_model import LinearRegression as LeastSquares

DATA = NoisyImages(shots=12, queries=30)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with default_dtype(torch.float64):
        yield


class Problem:
    """A row of a grid as matrices: features, targets and a_0 (in the model's own units), for a loop by hand."""

    def __init__(self, factors: Factors, width: int) -> None:
        self.family = Widths(widths=(width,), settings=(factors,), seeds=(3,))
        self.point = self.family.sample(self.family.begin(Key.of(0)), 1, Key.of(1)).tasks
        found = RandomFeatures(data=DATA).problem(self.point, Key.of(2).split(1))
        (design,) = designs(found.points, found.data.support_x, found.which)
        offset = found.support_y.mean(1) if factors.centre else torch.zeros(1, 10)
        self.x, self.query = factors.scale * design.support[0], factors.scale * design.features(found.data.query_x)[0]
        self.y, self.query_y, self.offset = found.support_y[0] - offset, found.query_y[0], offset
        self.start = factors.start * design.key.fold("start", width).normal(width, 10)[0]
        self.rate = factors.lr / (torch.linalg.matrix_norm(self.x, 2) / factors.scale) ** 2

    def errors(self, layer: Any) -> tuple[float, float]:
        """Test and training error of an output layer."""
        layer = torch.as_tensor(layer)
        test = (self.query @ layer + self.offset - self.query_y).square().sum(-1).mean()
        return float(test), float((self.x @ layer - self.y).square().sum(-1).mean())

    def of(self, learner: FeatureModel[Any]) -> tuple[float, float]:
        """The same of a learner."""
        out, _ = learner.live({}, self.point, Key.of(4).split(1))
        return float(out.loss), float(out.metrics["train_loss"])


@pytest.mark.parametrize("width", [7, 12, 40])
@pytest.mark.parametrize(
    "factors",
    [
        Factors(),
        Factors(start=2.0),
        Factors(lr=1.9),
        Factors(lr=0.3, scale=1.5, start=0.5),
        Factors(standardise=True),
        Factors(centre=True, standardise=True, start=1.0),
    ],
)
def test_the_closed_form_is_gradient_descent_step_by_step(factors: Factors, width: int) -> None:
    problem = Problem(factors, width)
    layer = problem.start
    for _ in range(57):
        layer = layer - problem.rate * problem.x.T @ (problem.x @ layer - problem.y)
    expected = problem.errors(layer)
    rows = Problem(factors.but(steps=57.0), width)
    assert rows.of(RandomFeatures(data=DATA)) == pytest.approx(expected, rel=1e-9)
    assert problem.of(FeatureDescent(data=DATA, steps=57)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("width", [7, 12, 40])
def test_the_end_of_all_steps_is_the_least_squares_solution_of_smallest_norm(width: int) -> None:
    problem = Problem(Factors(), width)
    layer = np.linalg.lstsq(problem.x.numpy(), problem.y.numpy(), rcond=RCOND)[0]
    assert problem.of(RandomFeatures(data=DATA)) == pytest.approx(problem.errors(layer), rel=1e-6, abs=1e-15)
    sklearn = LeastSquares(fit_intercept=False).fit(problem.x.numpy(), problem.y.numpy()).coef_.T
    assert problem.of(RandomFeatures(data=DATA))[0] == pytest.approx(problem.errors(sklearn)[0], rel=1e-6)
    many = Problem(Factors(steps=1e12), width)
    assert many.of(RandomFeatures(data=DATA))[0] == pytest.approx(problem.errors(layer)[0], rel=1e-2)


def test_from_other_weights_the_end_is_the_nearest_solution() -> None:
    problem = Problem(Factors(start=3.0), 40)
    layer = problem.start.numpy() + np.linalg.pinv(problem.x.numpy()) @ (problem.y - problem.x @ problem.start).numpy()
    assert problem.of(RandomFeatures(data=DATA)) == pytest.approx(problem.errors(layer), rel=1e-8, abs=1e-15)


def test_batches_and_momentum_are_those_of_weights_themselves() -> None:
    problem, learner = (
        Problem(Factors(lr=0.3, start=0.5, scale=0.8), 9),
        FeatureDescent(data=DATA, steps=4, batch=5, momentum=0.7),
    )
    keys = Key.of(4).split(1)
    layer, velocity = problem.start, torch.zeros(9, 10)
    for epoch in range(4):
        for batch in keys.fold("step", epoch).permutation(12)[0].split(5):
            x, y = problem.x[batch], problem.y[batch]
            velocity = 0.7 * velocity - problem.rate * 12 / len(batch) * x.T @ (x @ layer - y)
            layer = layer + velocity
    assert problem.of(learner) == pytest.approx(problem.errors(layer), rel=1e-9)


def test_adam_is_torchs_adam_whatever_the_padding() -> None:
    factors = Factors(lr=0.05, start=0.5, scale=1.7)
    problem = Problem(factors, 9)
    layer = problem.start.clone().requires_grad_()
    optimizer = torch.optim.Adam([layer], lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        ((problem.x @ layer - problem.y).square().sum() / 24).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    expected = problem.errors(layer.detach())
    learner = FeatureAdam(data=DATA, steps=30)
    assert problem.of(learner) == pytest.approx(expected, rel=1e-8)
    wide = Widths(widths=(9, 31), settings=(factors,), seeds=(3,))
    out, _ = learner.live({}, wide.sample(wide.begin(Key.of(0)), 2, Key.of(1)).tasks, Key.of(4).split(2))
    assert float(out.loss[0]) == pytest.approx(expected[0], rel=1e-8)


def test_condition_and_rank_are_those_of_the_features() -> None:
    family = Widths(widths=(5, 12, 30), settings=(Factors(), Factors(standardise=True, centre=True)), seeds=(0, 1))
    points = family.sample(family.begin(Key.of(0)), family.size, Key.of(0)).tasks
    out, _ = RandomFeatures(data=DATA).live({}, points, Key.of(0).split(family.size))
    found = RandomFeatures(data=DATA).problem(points, Key.of(0))
    for design in designs(points, found.data.support_x, found.which):
        for row, own in zip(design.rows.tolist(), design.which.tolist(), strict=True):
            s = np.linalg.svd(design.support[own].numpy(), compute_uv=False)
            alive = s[s > RCOND * s[0]]
            assert out.metrics["rank"][row] == len(alive)
            assert float(out.metrics["condition"][row]) == pytest.approx(s[0] / alive[-1], rel=1e-6)


def test_features_are_as_defined() -> None:
    problem = RandomFeatures(data=DATA).problem(Point.of(Factors(), 7, Key.of(0).split(2)), Key.of(0))
    (design,) = designs(problem.points, problem.data.support_x, problem.which)
    x, w = problem.data.support_x, design.weights
    assert w.std() == pytest.approx(1.0, abs=0.1)
    expected = torch.relu(x @ w / math.sqrt(x.shape[-1])) / math.sqrt(7)
    assert torch.allclose(design.support, expected[design.data])


def test_a_rate_that_diverges_is_refused() -> None:
    with pytest.raises(UserError, match=r"lr \* scale\^2 = 3: gradient descent diverges"):
        Problem(Factors(lr=3.0), 5).of(RandomFeatures(data=DATA))


def test_it_predicts_what_it_is_judged_by_on_episodes() -> None:
    family = LinearRegression(inputs=3, outputs=2, shots=8, queries=5)
    tasks: Episode = family.sample({}, 4, Key.of(0)).tasks
    keys = Key.of(1).split(4)
    for learner in (
        RandomFeatures(width=20, factors=Factors(steps=50.0, centre=True, start=0.2)),
        FeatureDescent(width=20, steps=3, batch=4, factors=Factors(standardise=True)),
    ):
        out, state = learner.live({}, tasks, keys)
        found = learner.predict({}, state, tasks.query_x, keys)
        assert torch.allclose((found - tasks.query_y).square().sum(-1).mean(-1), out.loss)


def test_a_rows_own_number_of_steps_ends_its_life() -> None:
    family = Widths(widths=(9,), settings=(Factors(steps=2.0), Factors()), seeds=(0,))
    points: Point = family.sample(family.begin(Key.of(0)), 2, Key.of(0)).tasks
    learner = FeatureDescent(data=DATA, steps=5)
    keys = Key.of(1).split(2)
    assert torch.equal(torch.as_tensor(learner.lifetime(points)), torch.tensor([2, 5]))
    out, _ = learner.live({}, points, keys)
    closed = family.but(settings=(Factors(steps=2.0), Factors(steps=5.0)))
    expected, _ = RandomFeatures(data=DATA).live({}, closed.sample(closed.begin(Key.of(0)), 2, Key.of(0)).tasks, keys)
    assert torch.allclose(out.loss, expected.loss)
