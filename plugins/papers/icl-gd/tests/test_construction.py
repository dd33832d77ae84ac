"""Linear self-attention with the constructed weights is gradient descent (proposition 1)."""

from __future__ import annotations

import pytest
import torch
from metaloop import Episode, Key, UserError
from metaloop.claims import Setting
from metaloop_basics.learners.descent import GradientDescent
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.analysis import Model
from metaloop_icl_gd.attention import products
from metaloop_icl_gd.construction import construction, factored, interpolate, normalised
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.measures import construction_error
from metaloop_icl_gd.stages import aligned
from metaloop_icl_gd.transformer import LSATransformer

LINES = LinearRegression(inputs=4, shots=6, queries=3, outputs=2)
TASKS: Episode = LINES.sample({}, 20, Key.of(0)).tasks


def test_it_is_autograds_gradient_step_in_float64() -> None:
    assert max(construction_error(Setting(seeds=(0, 1, 2))).treatment) < 1e-10


def test_without_the_minus_it_is_not() -> None:
    assert min(construction_error(Setting(seeds=(0, 1, 2), broken=True)).treatment) > 1e-2


def test_a_hand_computed_step() -> None:
    # x = (1, 2), y = (3, 1): W = eta * (3 * 1 + 1 * 2) = 0.5 with eta/N = 0.1, so W * 4 = 2
    tasks = Episode(*(torch.tensor(v)[None, :, None] for v in ([1.0, 2.0], [3.0, 1.0], [4.0], [2.0])))
    model = Model(LSATransformer(), construction(1, eta=0.1))
    assert model.loss(tasks) == pytest.approx(0.0, abs=1e-12)
    assert model.loss(tasks._replace(query_y=tasks.query_y + 1)) == pytest.approx(0.5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_it_agrees_with_the_toolkits_gradient_descent(steps: int) -> None:
    theirs = GradientDescent(steps=steps, lr=0.3 * LINES.shots)
    key = Key.of(0)
    found = aligned(
        Model(LSATransformer(layers=steps), construction(4, 2, eta=0.3)),
        Model(theirs, theirs.init(LINES.spec, key)),
        TASKS,
    )
    assert found["prediction_difference"] < 1e-5
    assert found["cosine"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_with_gamma_it_is_gd_plus_plus(steps: int) -> None:
    descent = GDPlusPlus(steps=steps, eta=0.3, gamma=0.1)
    layers = Model(LSATransformer(layers=steps, key_size=8), construction(4, 2, eta=0.3, gamma=0.1, key_size=8))
    assert aligned(layers, Model(descent, descent.step_sizes()), TASKS)["prediction_difference"] < 1e-5


def test_gd_plus_plus_without_gamma_is_gradient_descent() -> None:
    plain, corrected = GDPlusPlus(steps=3, eta=0.2, whiten=False), GDPlusPlus(steps=3, eta=0.2, gamma=0.0)
    losses = [Model(learner, learner.step_sizes()).losses(TASKS) for learner in (plain, corrected)]
    torch.testing.assert_close(*losses)


def test_too_few_keys_are_refused() -> None:
    with pytest.raises(UserError, match="key_size"):
        construction(10, eta=0.6, key_size=10)


def trained_like(key: Key) -> dict[str, torch.Tensor]:
    """Weights near the construction, with noise."""
    theta = construction(4, eta=0.3)
    return {name: value + 0.05 * key.fold(name).normal(*value.shape) for name, value in theta.items()}


def test_interpolation_does_not_depend_on_scale() -> None:
    theta, target = trained_like(Key.of(1)), construction(4, eta=0.3)
    scaled = theta | {"query": -3.0 * theta["query"], "projection": theta["projection"] / -3.0}
    found = [products(interpolate(own, target, 4)) for own in (theta, scaled)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(normalised(target, 4), products(target))


def test_factored_weights_have_their_products() -> None:
    theta = trained_like(Key.of(2))
    torch.testing.assert_close(products(factored(products(theta))), products(theta))


def test_the_whole_way_is_either_end() -> None:
    theta, target = trained_like(Key.of(3)), construction(4, eta=0.3)
    tasks = LINES.but(outputs=1).sample({}, 10, Key.of(0)).tasks
    for weight, end in ((1.0, theta), (0.0, target)):
        between = Model(LSATransformer(), interpolate(theta, target, 4, weight))
        torch.testing.assert_close(between.losses(tasks), Model(LSATransformer(), end).losses(tasks))
