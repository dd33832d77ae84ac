"""compile=True is the same numbers, sooner; where it can't be, plain torch and one warning."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from metaloop import tree
from metaloop.compiling import Compiled

from .parts import Drift, objective, same, thetas_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_gradients_and_outcomes_are_those_of_plain_torch() -> None:
    """With noise, masked lives and second-order gradients inside."""
    learner = Drift()
    plain, quick = objective(learner, 4), objective(learner, 4, compiled=Compiled(True))
    theta = thetas_for(learner)
    for _ in range(2):
        slope, out = quick.grad(theta)
        expected, plain_out = plain.grad(theta)
        same(slope, expected, 1e-6)
        same(out.loss, plain_out.loss, 1e-6)
        theta = {name: value - 0.1 * slope[name] for name, value in theta.items()}
    assert quick.spent == plain.spent


def test_windows_of_lives_are_those_of_plain_torch() -> None:
    learner, theta = Drift(everyone=4), thetas_for(Drift())
    compiled = Compiled(True)
    quick_carry, carry = None, None
    for step in range(3):
        plain, quick = objective(learner, 4, seed=step), objective(learner, 4, seed=step, compiled=compiled)
        slope, _, quick_carry = quick.unroll_grad(theta, quick_carry, 2)
        expected, _, carry = plain.unroll_grad(theta, carry, 2)
        same(slope, expected, 2e-6)
        same(quick_carry.state, carry.state, 2e-6)


def test_a_population_is_that_of_plain_torch() -> None:
    learner = Drift(everyone=2)
    plain, quick = objective(learner, 4), objective(learner, 4, compiled=Compiled(True))
    for seed in range(2):
        thetas = tree.map_tensors(lambda leaf, seed=seed: leaf + seed, thetas_for(learner, 3))
        same(quick.many(thetas).loss, plain.many(thetas).loss, 5e-6)


class Picky(Drift):
    """Its own error must come through, compiled or not."""

    def evaluate_one(self, theta: Any, state: Any, task: Any, key: Any) -> Any:
        raise ZeroDivisionError("my own error")


def test_a_learners_own_error_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError, match="my own error"):
        objective(Picky(), 2, compiled=Compiled(True)).grad(thetas_for(Picky()))


NO_COMPILER = """
import sys, warnings
from metaloop import Experiment
from metaloop.engine import Engine
from metaloop.compiling import Compiled
from metaloop.key import Key
from metaloop.objective import TaskObjective
from metaloop.testing.toys import Lives, Quadratics
import torch

learner, family = Lives(), Quadratics()
theta = learner.init(family.spec, Key.of(0))
def objective(**engine):
    return TaskObjective(Engine(learner, **engine), family, {}, 6, Key.of(1))
compiled = objective(compiled=Compiled(True), chunk=2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    slope, _ = compiled.grad(theta)
    compiled.grad(theta)
    compiled(theta)
    compiled.unroll_grad(theta, None, 1)
told = [str(w.message) for w in caught if "compile=True has no effect" in str(w.message)]
expected, _ = objective(chunk=2).grad(theta)
print(len(told), all(torch.equal(slope[name], expected[name]) for name in theta), "\\n" in told[0])
"""


def test_without_a_compiler_there_is_one_warning_and_plain_torch(tmp_path: Any) -> None:
    environment = {
        **os.environ,
        "CXX": "/nonexistent/compiler",
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),  # nothing compiled earlier is at hand
    }
    command = [sys.executable, "-c", NO_COMPILER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["1", "True", "False"], done.stderr


def test_not_enabled_means_not_wrapped() -> None:
    def plain(x: torch.Tensor) -> torch.Tensor:
        return x

    assert Compiled()(plain, "any") is plain
