"""What learners promise that declare themselves stackable or differentiable, and that no learner keeps memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metaloop import tree
from metaloop.key import Key
from metaloop.precision import default_dtype
from metaloop.testing.compare import (
    expect,
    expect_no_growth,
    expect_same,
    rows_of,
)
from metaloop.testing.model import Suite
from metaloop.testing.pair import DOUBLE, Pair

suite = Suite[Pair]()


def _tensors(pair: Pair) -> bool:
    return pair.learner.theta_kind == "tensors"


def _stackable(pair: Pair) -> bool:
    return _tensors(pair) and pair.learner.stackable


def _differentiable(pair: Pair) -> bool:
    return _tensors(pair) and pair.learner.differentiable


@suite.when(_stackable)
def stacked_equals_one_by_one(pair: Pair) -> None:
    """Stacked thetas under `vmap` give what each gives alone; candidate i on task i as well."""
    with default_dtype(torch.float64):
        there = pair.anew()
        objective = there.objective()
        thetas = [_near(there.theta(seed), seed) for seed in range(there.n)]
        together = objective.many(tree.stack(thetas))
        diagonal = objective.many(tree.stack(thetas), each=True)
        for i, theta in enumerate(thetas):
            alone = rows_of(objective(theta))
            expect_same(alone, tree.index(rows_of(together), i), f"theta {i} alone is not as in a stack", DOUBLE)
            mine, own = tree.index(alone, i), tree.index(rows_of(diagonal), i)
            expect_same(mine, own, f"theta {i} on task {i} is not as in a stack of pairs", DOUBLE)


def _near(theta: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A theta close by, for a learner that always begins with the same."""
    key = Key.of(seed).fold("near")
    return {
        name: value * (1 + 0.01 * key.fold(name).normal(*value.shape)) if value.is_floating_point() else value
        for name, value in theta.items()
    }


@suite.when(_differentiable)
def gradient_equals_differences(pair: Pair) -> None:
    """The meta-gradient is the slope of the mean loss, by central differences in float64."""
    with default_dtype(torch.float64):
        there = pair.anew()
        objective, theta = there.objective(), _near(there.theta(), 0)
        floats = {name: value for name, value in theta.items() if value.is_floating_point()}
        gradient, _ = objective.grad(theta)
        for direction in _directions(floats):
            h = 1e-5
            ahead, behind = (
                objective(theta | {name: floats[name] + sign * h * direction[name] for name in floats}).loss.mean()
                for sign in (1, -1)
            )
            slope = float(ahead - behind) / (2 * h)
            ours = sum(float((gradient[name].detach() * direction[name]).sum()) for name in floats)
            allowed = 1e-4 * max(abs(slope), abs(ours)) + 1e-8 * (1 + abs(float(ahead)))
            expect(
                abs(slope - ours) <= allowed,
                f"the gradient says {ours:.6g} along a direction, differences say {slope:.6g}: "
                "set differentiable = False, or announce the failure where the gradient is approximate on purpose",
            )


def _directions(theta: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """One direction through all of theta, and one random coordinate of each of three tensors."""
    key = Key.of(4)
    every = {name: key.fold(name).normal(*value.shape) for name, value in theta.items()}
    length = sum(float((value**2).sum()) for value in every.values()) ** 0.5
    yield {name: value / length for name, value in every.items()}
    for name in list(theta)[:3]:
        zeros = {other: torch.zeros_like(value) for other, value in theta.items()}
        zeros[name].view(-1)[int(key.fold("coordinate", name).randint(0, theta[name].numel()))] = 1.0
        yield zeros


@suite.when(_differentiable)
def unrolled_gradient_equals_whole(pair: Pair) -> None:
    """The gradient through a full unroll is that of the whole life."""
    with default_dtype(torch.float64):
        there = pair.anew()
        objective, theta = there.objective(), there.theta()
        whole, _ = objective.grad(theta)
        unrolled, _, _ = objective.unroll_grad(theta, None, there.longest, measure="end")
        expect_same(whole, unrolled, "the gradient of a life and that of its full unroll differ", 1e-8)


@suite.check
def keeps_no_tensors(pair: Pair) -> None:
    """Lives leave nothing behind in memory."""
    objective, theta = pair.objective(), pair.theta()
    act = objective.grad if _differentiable(pair) else objective
    expect_no_growth(lambda: act(theta), "lives")
