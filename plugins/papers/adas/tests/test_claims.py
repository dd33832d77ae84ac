"""Every claim has been seen to fail: its broken treatment, measured small."""

from __future__ import annotations

import pytest
from metaloop.claims import Claim, verify
from metaloop_adas import judging, measures
from metaloop_adas.claims import CLAIMS
from metaloop_adas.seeds import seeds
from metaloop_adas.solver import SETTINGS


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deap")
    strong = dict.fromkeys(SETTINGS, SETTINGS["stronger"].but(insight=10.0, reading=20.0))
    monkeypatch.setattr(measures, "SETTINGS", strong)
    monkeypatch.setattr(measures, "GENERATIONS", (1, 1))
    monkeypatch.setattr(measures, "VALIDATION", 8)
    monkeypatch.setattr(measures, "TEST", 12)
    monkeypatch.setattr(measures, "LEARNER", measures.LEARNER.but(repeats=1))
    monkeypatch.setattr(measures, "SEARCH", measures.SEARCH.but(seeds=("Chain of thought",)))
    monkeypatch.setattr(judging, "hand_designed", lambda budget: seeds()[:1])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_broken_treatment_fails(claim: Claim) -> None:
    (result,) = verify([claim], broken=True).results
    assert result.verdict == "fails", result.reason
