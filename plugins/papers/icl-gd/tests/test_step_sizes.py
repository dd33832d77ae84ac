"""The best step sizes, against theory and brute force."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.analysis import Model, best_descent, zero
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.step_sizes import best_step_sizes, expected_one_step, one_step_eta

LINES = LinearRegression(inputs=10, shots=10, queries=1)


def test_theory_at_the_papers_setting() -> None:
    found = expected_one_step(10, 10)
    assert 10 * found.eta == pytest.approx(6.06, abs=0.005)
    assert found.loss == pytest.approx(0.2062, abs=5e-5)
    assert found.zero_loss == pytest.approx(0.4167, abs=5e-5)


@pytest.mark.parametrize(("inputs", "shots", "span"), [(10, 10, 1.0), (3, 20, 2.0), (5, 4, 0.5)])
def test_theory_is_what_is_sampled(inputs: int, shots: int, span: float) -> None:
    tasks = (
        LinearRegression(inputs=inputs, shots=shots, queries=1, input_scale=span).sample({}, 20_000, Key.of(0)).tasks
    )
    theory = expected_one_step(inputs, shots, span)
    learner = GDPlusPlus(whiten=False, eta=theory.eta)
    assert Model(learner, learner.step_sizes()).loss(tasks) == pytest.approx(theory.loss, rel=0.05)
    assert zero(tasks) == pytest.approx(theory.zero_loss, rel=0.05)
    assert one_step_eta(tasks) == pytest.approx(theory.eta, rel=0.05)


def test_the_closed_form_is_the_best_of_a_grid() -> None:
    tasks = LINES.sample({}, 500, Key.of(1)).tasks
    best = one_step_eta(tasks)

    def loss(eta: float) -> float:
        learner = GDPlusPlus(whiten=False, eta=eta)
        return Model(learner, learner.step_sizes()).loss(tasks)

    assert all(loss(best) < loss(best + offset) for offset in (-0.3, -0.01, 0.01, 0.3))


def test_fits_reach_the_known_losses_of_two_steps() -> None:
    tune, judge = (LINES.sample({}, 10_000, Key.of(seed)).tasks for seed in (2, 3))
    plain, corrected = (best_descent(2, tune, whiten=whiten) for whiten in (False, True))
    assert 10 * float(plain.theta["eta"]) == pytest.approx(5.97, abs=0.2)
    assert 10 * float(corrected.theta["eta"]) == pytest.approx(13.4, abs=0.7)
    assert float(corrected.theta["gamma"]) == pytest.approx(0.174, abs=0.01)
    assert corrected.loss(judge) / plain.loss(judge) == pytest.approx(0.1137 / 0.1584, abs=0.02)


def test_steps_of_their_own_are_no_worse_than_shared_ones() -> None:
    tasks = LINES.sample({}, 500, Key.of(4)).tasks
    shared, own = (GDPlusPlus(steps=2, shared=shared, eta=0.5) for shared in (True, False))
    assert Model(own, best_step_sizes(own, tasks)).loss(tasks) < Model(shared, best_step_sizes(shared, tasks)).loss(
        tasks
    )


def test_descending_too_far_diverges_and_is_found_out() -> None:
    tasks = LINES.sample({}, 200, Key.of(5)).tasks
    wild = GDPlusPlus(steps=20, whiten=False, eta=3.0)
    assert Model(wild, wild.step_sizes()).loss(tasks) > 10 * zero(tasks)
    assert torch.isfinite(best_step_sizes(wild.but(eta=0.3), tasks)["eta"]).all()
