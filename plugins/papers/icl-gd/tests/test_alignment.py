"""Measures of how alike two learners are, and of copying."""

from __future__ import annotations

import math

import pytest
import torch
from metaloop import Episode, Key
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.analysis import Model, shifted
from metaloop_icl_gd.copying import copying
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.stages import aligned
from metaloop_icl_gd.transformer import LSATransformer

LINES = LinearRegression(inputs=3, shots=6, queries=1)
TASKS: Episode = LINES.sample({}, 50, Key.of(0)).tasks


def descent(eta: float) -> Model:
    learner = GDPlusPlus(whiten=False, eta=eta)
    return Model(learner, learner.step_sizes())


def test_a_learner_is_aligned_with_itself() -> None:
    found = aligned(descent(0.3), descent(0.3), TASKS)
    assert found["cosine"] == pytest.approx(1.0)
    assert found["relative_difference"] == found["prediction_difference"] == 0.0
    assert found["loss"] == found["reference_loss"]


def test_twice_the_step_points_the_same_way_and_is_as_far_as_it_is_long() -> None:
    found = aligned(descent(0.6), descent(0.3), TASKS)
    assert found["cosine"] == pytest.approx(1.0)
    assert found["relative_difference"] == pytest.approx(1.0, abs=1e-5)


def test_climbing_points_the_other_way() -> None:
    found = aligned(descent(-0.3), descent(0.3), TASKS)
    assert found["cosine"] == pytest.approx(-1.0)
    assert found["relative_difference"] == pytest.approx(2.0, abs=1e-5)


def test_laws_are_shifted_as_they_say() -> None:
    # one step of gradient descent is linear in the weights and of third degree in inputs, its target of first
    found = shifted({"none": descent(0.0), "step": descent(0.3)}, LINES, 4000, Key.of(1))
    weights = found["weight scale"]
    per_square = [loss / float(at) ** 2 for at, loss in zip(weights.at, weights.losses["step"], strict=True)]
    assert per_square == pytest.approx([per_square[1]] * len(per_square), rel=1e-3)
    inputs = found["input scale"]
    per_square = [loss / float(at) ** 2 for at, loss in zip(inputs.at, inputs.losses["none"], strict=True)]
    assert per_square == pytest.approx([per_square[2]] * len(per_square), rel=1e-3)
    noisy = found["noisy labels"]
    assert noisy.at == [0.0, 2.0, 4.0, 6.0]  # no more than there are shots
    assert noisy.losses["step"] == sorted(noisy.losses["step"])
    assert len(set(noisy.losses["none"])) == 1  # queries keep their labels


@pytest.mark.parametrize("offset", [0, 1])
def test_a_first_layer_that_copies_is_seen_to(offset: int) -> None:
    """Softmax attention by position alone: each token attends to itself, or to the one that follows."""
    size = 8
    learner = LSATransformer(layers=2, recurrent=False, tokens="separate", positions=size, softmax="first")
    theta = {name: torch.zeros_like(value) for name, value in learner.init(LINES.spec, Key.of(0)).items()}
    turn = torch.zeros(size, size)
    for pair, frequency in enumerate(torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size)).tolist()):
        c, s = math.cos(offset * frequency), math.sin(offset * frequency)
        turn[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor([[c, s], [-s, c]])
    x, positions = slice(0, 3), slice(3, 3 + size)
    theta["key"][0, 0, positions, positions] = 1000.0 * torch.eye(size)
    theta["query"][0, 0, positions, positions] = turn
    theta["value"][0, 0, x, x] = theta["projection"][0, 0, x, x] = torch.eye(3)
    found = copying(learner, theta, TASKS)
    own, following, others = (float(value.mean()) for value in found)
    per_token = math.sqrt(3)  # the norm of the derivative of a sum of three copied numbers
    assert following == pytest.approx(per_token if offset else 0.0, abs=0.05)
    assert own == pytest.approx(per_token if offset else 2 * per_token, abs=0.05)
    assert others == pytest.approx(0.0, abs=0.05)
