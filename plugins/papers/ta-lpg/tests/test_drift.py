"""Drifts: PPO's as a special case, mirror learning's conditions, the time."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key, UserError
from metaloop_rl.tasks import Environments
from metaloop_ta_lpg.drift import DriftObjective
from metaloop_ta_lpg.lpo import Lpo

NOW = torch.tensor(0.5)


def some(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    return 0.5 * Key.of(0).normal(n), Key.of(1).normal(n)


def test_without_f_it_is_ppos_clipped_objective_and_its_gradient() -> None:
    drift, (log_ratio, advantage) = DriftObjective(), some()
    theta = drift.init(Key.of(2))
    moved = log_ratio.clone().requires_grad_()
    ours = moved.exp() * advantage - drift(theta, moved, advantage, NOW)
    other = log_ratio.clone().requires_grad_()
    ratio = other.exp()
    ppo = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    assert torch.allclose(ours, ppo, atol=1.1e-4)
    (mine,), (theirs,) = torch.autograd.grad(ours.sum(), moved), torch.autograd.grad(ppo.sum(), other)
    clear = (ratio * advantage - ppo == 0) | (ratio * advantage - ppo > 1e-3)
    assert torch.allclose(mine[clear], theirs[clear], atol=1e-5)


def test_any_drift_is_never_negative_and_flat_where_the_policy_has_not_moved() -> None:
    drift = DriftObjective(ppo=False, time_inputs="relative")
    theta, (log_ratio, advantage) = {n: 3 * v for n, v in drift.init(Key.of(2)).items()}, some()
    found = drift(theta, log_ratio, advantage, NOW)
    assert float(found.min()) == 0 < float(found.max())
    at = torch.zeros_like(advantage).requires_grad_()
    here = drift(theta, at, advantage, NOW)
    assert float(here.detach().abs().max()) == 0
    assert float(torch.autograd.grad(here.sum(), at)[0].abs().max()) == 0


def test_only_a_drift_with_time_inputs_changes_over_a_life() -> None:
    log_ratio, advantage = some()
    for inputs, changes in (("off", False), ("relative", True)):
        drift = DriftObjective(ppo=False, time_inputs=inputs)
        theta = drift.init(Key.of(2))
        early, late = (drift(theta, log_ratio, advantage, torch.tensor(at)) for at in (0.0, 1.0))
        assert torch.equal(early, late) is not changes


def test_ppo_learns_to_balance_poles_and_not_at_rate_zero() -> None:
    poles = Environments()
    learner = Lpo(steps=10, copies=8, epochs=4, minibatches=2, lr=3e-3)
    tasks, theta = poles.sample({}, 1, Key.of(0)).tasks, learner.init(poles.spec, Key.of(0))
    with torch.no_grad():
        taught, untaught = (
            float(own.outcomes(theta, tasks, Key.of(1).split(1)).fitness) for own in (learner, learner.but(lr=0.0))
        )
    assert taught > 1.2 * untaught


def test_minibatches_must_be_equal() -> None:
    with pytest.raises(UserError, match=r"512 environment steps are no 3 equal parts"):
        Lpo(minibatches=3)
