"""The laws that regression tasks are drawn from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop.errors import UserError
from metaloop.key import Key
from metaloop_basics.tasks.regression import LinearRegression, Sinusoid
from metaloop_basics.tasks.sampling import distinct
from pydantic import ValidationError
from torch import Tensor


def draw(family: LinearRegression | Sinusoid, n: int = 4000, seed: int = 0) -> Any:
    return family.sample({}, n, Key.of(seed)).tasks


def fitted(x: Tensor, y: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.lstsq(x, y).solution
    return solution


@pytest.mark.parametrize(
    ("law", "mean", "variance", "fourth"),
    [("uniform", 0, 1 / 12, 1 / 80), ("normal", 0, 1, 3), ("exponential", 1, 1, 9), ("laplace", 0, 2, 24)],
)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_input_laws_have_their_moments(law: Any, mean: float, variance: float, fourth: float, scale: float) -> None:
    x = draw(LinearRegression(law=law, input_scale=scale)).support_x.double() / scale
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x.var()) == pytest.approx(variance, rel=0.02)
    assert float((x - mean).pow(4).mean()) == pytest.approx(fourth, rel=0.1)


def test_input_scale_is_the_range_of_uniform_inputs() -> None:
    x = draw(LinearRegression(input_scale=1.0)).query_x
    assert -0.5 <= float(x.min()) < -0.499
    assert 0.499 < float(x.max()) <= 0.5


@pytest.mark.parametrize("law", ["normal", "exponential", "laplace"])
def test_frobenius_divides_by_the_support_inputs_norm(law: Any) -> None:
    family = LinearRegression(law=law, input_scale=3.0)
    plain, divided = draw(family, 50), draw(family.but(frobenius=True), 50)
    norm = (plain.support_x / 3).square().sum((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(divided.support_x, plain.support_x / norm)
    torch.testing.assert_close(divided.query_x, plain.query_x / norm)
    torch.testing.assert_close(torch.linalg.matrix_norm(divided.support_x), torch.full((50,), 3.0))


def test_targets_are_linear_with_weights_of_the_given_scale() -> None:
    tasks = draw(LinearRegression(inputs=3, outputs=2, shots=5, weight_scale=2.0))
    weight = fitted(tasks.support_x, tasks.support_y)
    torch.testing.assert_close(tasks.query_x @ weight, tasks.query_y, rtol=1e-3, atol=1e-3)
    assert float(weight.mean()) == pytest.approx(0, abs=0.05)
    assert float(weight.std()) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("noisy", [None, 0, 3, 10])
@pytest.mark.parametrize("replace", [False, True])
def test_noise_is_on_as_many_labels_as_asked(noisy: int | None, replace: bool) -> None:
    family = LinearRegression(noise=0.5, noisy=noisy, replace=replace)
    clean, tasks = draw(family.but(noise=0)), draw(family)
    torch.testing.assert_close(clean.support_x, tasks.support_x)
    torch.testing.assert_close(clean.query_y, tasks.query_y)
    changed = (clean.support_y != tasks.support_y).squeeze(-1)
    count = 10 if noisy is None else noisy
    assert (changed.sum(1) == count).all()
    if count:
        noise = (tasks.support_y - (0 if replace else clean.support_y))[changed]
        assert float(noise.mean()) == pytest.approx(0, abs=0.02)
        assert float(noise.std()) == pytest.approx(0.5, rel=0.03)
    if noisy == 3:  # any of a task's labels, not the first ones
        torch.testing.assert_close(changed.float().mean(0), torch.full((10,), 0.3), rtol=0, atol=0.04)


def test_sinusoids_follow_their_formula() -> None:
    tasks = draw(Sinusoid(shots=10, amplitude=(0.5, 2.0), phase=(0.2, 1.2)))
    x, y = tasks.support_x, tasks.support_y
    # A sin(x + phi) = A cos(phi) sin(x) + A sin(phi) cos(x)
    parts = fitted(torch.cat([x.sin(), x.cos()], -1), y)
    torch.testing.assert_close(
        torch.cat([tasks.query_x.sin(), tasks.query_x.cos()], -1) @ parts, tasks.query_y, rtol=1e-3, atol=1e-3
    )
    amplitude, phase = parts.norm(dim=1).squeeze(-1), torch.atan2(parts[:, 1], parts[:, 0]).squeeze(-1)
    for found, low, high in ((amplitude, 0.5, 2.0), (phase, 0.2, 1.2), (x, -5.0, 5.0)):
        assert low - 1e-3 <= float(found.min()) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < float(found.max()) <= high + 1e-3
        assert float(found.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert abs(float(torch.corrcoef(torch.stack([amplitude, phase]))[0, 1])) < 0.05


def test_correlated_sinusoids_are_a_line_of_tasks() -> None:
    tasks = draw(Sinusoid(correlated=True, amplitude=(0.5, 2.0), phase=(0.2, 1.2)), 500)
    parts = fitted(torch.cat([tasks.support_x.sin(), tasks.support_x.cos()], -1), tasks.support_y)
    amplitude, phase = parts.norm(dim=1).squeeze(-1), torch.atan2(parts[:, 1], parts[:, 0]).squeeze(-1)
    torch.testing.assert_close((amplitude - 0.5) / 1.5, phase - 0.2, rtol=0, atol=1e-3)


def test_default_ranges_are_mamls() -> None:
    family = Sinusoid()
    assert (family.amplitude, family.phase, family.x_range) == ((0.1, 5.0), (0.0, math.pi), (-5.0, 5.0))


@pytest.mark.parametrize("family", [LinearRegression(noise=0.1, noisy=3), Sinusoid(noise=0.1)], ids=["lines", "sines"])
def test_a_key_names_its_tasks(family: LinearRegression | Sinusoid) -> None:
    one, again, other = draw(family, 8), draw(family, 8), draw(family, 8, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    few = draw(family, 3)
    assert all(torch.equal(a[:3], b) for a, b in zip(one, few, strict=True))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LinearRegression(shots=4, noisy=5), "noisy"),
        (lambda: LinearRegression(noise=-1), "noise"),
        (lambda: LinearRegression(law="cauchy"), "law"),
        (lambda: Sinusoid(x_range=(1, 0)), "x_range"),
        (lambda: Sinusoid(amplitude=(0, math.inf)), "amplitude"),
    ],
)
def test_impossible_settings_are_refused(make: Any, field: str) -> None:
    with pytest.raises((UserError, ValidationError), match=field):
        make()


@given(st.integers(1, 40), st.data())
@settings(deadline=None, max_examples=50)
def test_distinct_numbers_are_distinct_and_in_range(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    found = distinct(Key.of(data.draw(st.integers(0, 99))).split(20), n, k)
    assert found.shape == (20, k)
    assert found.min() >= 0
    assert found.max() < n
    assert all(len(set(row)) == k for row in found.tolist())


def test_distinct_numbers_are_uniform_in_every_position() -> None:
    """All 60 ordered choices of 3 among 5 come up equally often (chi-squared with 59 degrees of freedom)."""
    rows = distinct(Key.of(1).split(60_000), 5, 3)
    counts = torch.bincount(rows @ torch.tensor([25, 5, 1]), minlength=125)
    counts = counts[counts > 0]
    assert len(counts) == 60
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 99  # exceeded once in a thousand keys


def test_each_key_may_have_its_own_range() -> None:
    n = torch.tensor([3, 7, 50])
    found = distinct(Key.of(0).split(3), n, 3)
    assert sorted(found[0].tolist()) == [0, 1, 2]
    assert (found < n.unsqueeze(-1)).all()
