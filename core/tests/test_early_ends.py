"""A learner may say that a life is over before its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop.key import Key
from metaloop.outcome import Outcome
from metaloop.testing.toys import Climb
from torch import Tensor

from .parts import Drift, Solid, objective, thetas_for


def theta_of(learner: Any) -> Any:
    return thetas_for(learner) if learner.theta_kind == "tensors" else {}


class Quits(Drift):
    """Says that a life is over where it has come near enough."""

    steps: int = 9
    everyone: int | None = 9
    near: float = 1.0

    def evaluate_one(self, theta: Any, state: list[Tensor], task: Any, key: Key) -> Outcome:
        out = super().evaluate_one(theta, state, task, key)
        return out._replace(done=out.loss < self.near)


class QuitsAloud(Climb):
    """An object learner that says so only where it is the case."""

    def evaluate_one(self, theta: Any, state: Any, task: Any, key: Key) -> Outcome:
        out = super().evaluate_one(theta, state, task, key)
        return out._replace(done=torch.tensor(True)) if out.fitness > -9 else out


class QuitsTogether(Solid):
    """The same, written over a batch."""

    def evaluate(self, theta: Any, state: dict[str, Tensor], tasks: Any, keys: Key) -> Outcome:
        out = super().evaluate(theta, state, tasks, keys)
        return out._replace(done=out.loss < 1.0)


@pytest.mark.parametrize(
    "learner", [Quits(), QuitsAloud(steps=9), QuitsTogether(steps=9)], ids=lambda x: type(x).__name__
)
def test_a_life_ends_early_by_its_learners_word(learner: Any) -> None:
    theta, carry, early, spent = theta_of(learner), None, 0, 0
    for step in range(12):
        here, before = objective(learner, seed=step), carry
        out, carry = here.unroll(theta, carry, 1)
        spent += here.spent.inner_steps
        assert out.done is not None
        assert torch.equal(out.done, carry.clock.step >= carry.clock.lifetime)
        early += int((out.done & (carry.clock.step < 9)).sum())
        if before is not None:  # exactly those who had ended are new
            ended = before.clock.step >= before.clock.lifetime
            assert torch.equal(carry.keys.data != before.keys.data, ended)
            assert torch.equal(carry.clock.step == 1, ended)
    assert early > 0
    assert spent == 12 * 6


@pytest.mark.parametrize("learner", [Quits(), QuitsAloud(steps=2), QuitsTogether()], ids=lambda x: type(x).__name__)
def test_whole_lives_have_all_ended(learner: Any) -> None:
    """A curriculum is not told that some go on."""
    here, theta = objective(learner), theta_of(learner)
    assert here(theta).done is None
    if learner.differentiable:
        assert here.grad(theta)[1].done is None
        assert here.many(thetas_for(learner, 2)).done is None
