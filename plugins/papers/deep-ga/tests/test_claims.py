"""Every claim has been seen to fail: its broken treatment, measured small."""

from __future__ import annotations

import pytest
from metaloop.claims import Claim, verify
from metaloop_deep_ga import measures
from metaloop_deep_ga.claims import CLAIMS
from metaloop_deep_ga.jobs import MAZE_GA
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.tasks import Environments


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    ga = MAZE_GA.but(population=6, parents=2)
    searches = {
        "novelty": ga.but(objective="novelty"),
        "fitness": ga,
        "random": ga.but(parents=0),
        "evolution strategy": measures.MAZE_SEARCHES["evolution strategy"].but(population=6),
    }
    monkeypatch.setattr(measures, "MAZE_SEARCHES", searches)
    monkeypatch.setattr(measures, "GENERATIONS", (2, 2))
    for name in ("MAZE", "BESIDE_GOAL"):
        tasks = getattr(measures, name)
        monkeypatch.setattr(measures, name, tasks.but(env=tasks.env.but(max_steps=8)))
    monkeypatch.setattr(measures, "CONTROL_GENERATIONS", 8)
    monkeypatch.setattr(measures, "CONTROL_GA", measures.CONTROL_GA.but(population=32, parents=5))
    monkeypatch.setattr(
        measures, "CONTROL_ES", measures.CONTROL_GA
    )  # the strategy itself learns little in so short a time
    monkeypatch.setattr(measures, "NOISY", Environments(env=CartPole(max_steps=50)))
    monkeypatch.setattr(measures, "TESTS", 100)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_broken_treatment_fails(claim: Claim) -> None:
    (result,) = verify([claim], broken=True).results
    assert result.verdict == "fails", result.reason


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.id.startswith("C5")], ids=lambda claim: claim.id)
def test_seeds_hold_the_weights(claim: Claim) -> None:
    (result,) = verify([claim]).results
    assert result.verdict == "holds", result.reason
