"""Two-layer networks beside torch's modules and optimisers, one row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from metaloop import Experiment, Incompatible, Key, UserError
from metaloop.precision import default_dtype
from metaloop_double_descent.grid import Factors, Point, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.network import Training, TwoLayer
from metaloop_double_descent.perfect import PerfectNetwork
from torch import Tensor, nn

DATA = NoisyImages(shots=12, queries=30)
SETTINGS = (Factors(lr=0.02), Factors(lr=0.05, standardise=True, scale=1.5))
GRID = Widths(widths=(3, 8), settings=SETTINGS, seeds=(0,))


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with default_dtype(torch.float64):
        yield


def points() -> Point:
    return GRID.sample(GRID.begin(Key.of(0)), GRID.size, Key.of(1)).tasks


def begun(learner: TwoLayer) -> Training:
    return learner.begin({}, points(), Key.of(2).split(4))


def module_of(state: Training, row: int, norm: nn.Module) -> nn.Module:
    """A row's network without padding, as torch has it; its norm has no parameters and the bias comes after it."""

    class Shifted(nn.Module):
        def __init__(self, h: int) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(h))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.bias

    h = int(state.mask[row].sum())
    first, second = nn.Linear(61, h, bias=False), nn.Linear(h, 10)
    with torch.no_grad():
        first.weight.copy_(state.parameters["first"][row, :, :h].T)
        second.weight.copy_(state.parameters["second"][row, :h].T)
        second.bias.zero_()
    return nn.Sequential(first, norm, Shifted(h), nn.ReLU(), second)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("sgd", lambda p, lr: torch.optim.SGD(p, lr=lr)),
        ("momentum", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
        ("adam", lambda p, lr: torch.optim.Adam(p, lr=lr)),
    ],
)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_every_row_trains_as_torchs_module_does(name: Any, optimizer: Any, norm: Any) -> None:
    learner = TwoLayer(data=DATA, steps=6, optimizer=name, norm=norm)
    start = begun(learner)
    out, state = learner.live({}, points(), Key.of(3).split(4))
    for row in range(4):
        h = int(start.mask[row].sum())
        kinds = {
            "none": nn.Identity(),
            "layer": nn.LayerNorm(h, elementwise_affine=False),
            "batch": nn.BatchNorm1d(h, affine=False),
        }
        module = module_of(start, row, kinds[norm])
        rule = optimizer(module.parameters(), float(start.lr[row]))
        for _ in range(6):
            rule.zero_grad()
            ((module(start.x[row]) - start.y[row]).square().sum(-1).mean() / 2).backward()
            rule.step()
        expected = (module(start.x[row]) - start.y[row]).square().sum(-1).mean().detach()
        assert float(out.metrics["train_loss"][row]) == pytest.approx(float(expected), rel=1e-8)
    assert bool((state.parameters["first"] * (1 - start.mask)[:, None] == 0).all())


def test_both_parametrisations_begin_as_the_same_function_and_train_apart() -> None:
    standard, ntk = (TwoLayer(data=DATA, steps=3, parametrisation=p) for p in ("standard", "ntk"))
    one, other = (learner.evaluate({}, begun(learner), points(), Key.of(0)).loss for learner in (standard, ntk))
    assert torch.allclose(one, other)
    one, other = (learner.live({}, points(), Key.of(0).split(4))[0].loss for learner in (standard, ntk))
    assert not torch.allclose(one, other)


def test_an_epoch_of_batches_takes_as_many_updates() -> None:
    grid = GRID.but(settings=(Factors(lr=1e-4),))
    tasks = grid.sample(grid.begin(Key.of(0)), 2, Key.of(1)).tasks
    keys = Key.of(2).split(2)
    whole, batches = (TwoLayer(data=DATA, steps=1, optimizer="sgd", batch=size) for size in (None, 4))
    before = whole.begin({}, tasks, keys).parameters["second"]
    one, three = (learner.live({}, tasks, keys)[1].parameters["second"] - before for learner in (whole, batches))
    assert float((three - 3 * one).norm() / one.norm()) < 0.05  # three updates from nearly the same place


def test_l_bfgs_goes_lower_than_adam_from_the_same_weights() -> None:
    adam, perfect = TwoLayer(data=DATA, steps=50), PerfectNetwork(data=DATA, iterations=200)
    one, other = (
        learner.live({}, points(), Key.of(2).split(4))[0].metrics["train_loss"] for learner in (adam, perfect)
    )
    assert bool((other <= one * (1 + 1e-6)).all())  # three units may all be dead, to either
    assert bool((other < 0.9 * one)[[1, 3]].all())


def test_factors_that_networks_do_not_have_are_refused() -> None:
    grid = Widths(widths=(3,), settings=(Factors(start=1.0),), seeds=(0,))
    with pytest.raises(Incompatible, match="no start and no centre"):
        Experiment(tasks=grid, learner=TwoLayer(data=DATA))
    with pytest.raises(UserError, match="start and centre are factors of random features"):
        TwoLayer(data=DATA).begin({}, grid.sample(grid.begin(Key.of(0)), 1, Key.of(0)).tasks, Key.of(0).split(1))
