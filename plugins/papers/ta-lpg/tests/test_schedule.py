"""Schedules of rules, and meta-training in all four combinations of time inputs and antithetic task sampling."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key, UserError
from metaloop_ta_lpg.jobs import SMALL, Sampling, evolved, small_rule
from metaloop_ta_lpg.schedule import FRACTIONS, bank, follow, sizes

TINY = {"workers": 2, "episodes": 2, "segment": 4}


@pytest.mark.parametrize("time_inputs", ["off", "relative", "raw"])
@pytest.mark.parametrize("sampling", ["antithetic", "independent"])
def test_every_combination_trains(time_inputs: str, sampling: Sampling) -> None:
    experiment = evolved(time_inputs, 1, sampling, pairs=2)  # type: ignore[arg-type]
    tasks = SMALL.but(lifetimes=(1, 2), env=SMALL.env.but(max_steps=20))
    experiment = experiment.but(tasks=tasks, learner=experiment.learner.but(**TINY))
    progress = experiment.begin()
    after = experiment.advance(progress)
    assert all(bool(torch.isfinite(value).all()) for value in after.theta.values())
    assert after.outcome is not None
    assert len(after.outcome.fitness) == experiment.batch
    wrong = experiment.but(task_batch=3)
    with pytest.raises(UserError, match="population"):
        wrong.advance(wrong.begin())


def test_a_rule_that_is_told_nothing_has_no_schedule_and_one_that_scales_with_time_has_its_own() -> None:
    blind = small_rule("off", **TINY)
    theta = blind.init(SMALL.spec, Key.of(0))
    assert follow(blind, theta, SMALL, 3, 2, Key.of(1)).dynamicity == pytest.approx(0, abs=1e-6)
    told = small_rule("relative", **TINY)
    theta = {name: torch.zeros_like(value) for name, value in told.init(SMALL.spec, Key.of(0)).items()}
    hidden = told.network.hidden
    theta["gru.input.weight"][2 * hidden :, 5] = 1.0  # the new state is tanh(n/N), the gates are one half
    theta["pi.weight"][:] = 1.0
    found = sizes(told, theta, bank(told, SMALL, 2, Key.of(1)), 4)
    assert found[0] == 0
    assert found == sorted(found)
    assert len(set(found)) == len(FRACTIONS)


def test_all_rules_meet_the_same_experience() -> None:
    one, two = (bank(small_rule(inputs, **TINY), SMALL, 2, Key.of(1)) for inputs in ("off", "relative"))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert float(one.probability.std()) > 0.05
