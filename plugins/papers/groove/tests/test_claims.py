"""Every claim has been seen to fail: its broken treatment, measured small with a rule that is known to work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from metaloop import Key
from metaloop.claims import Claim, Setting, verify
from metaloop_groove import jobs, measures
from metaloop_groove.claims import CLAIMS
from metaloop_rl.learners.lpg_network import LpgNetwork
from metaloop_rl.tasks import Environments

from .rule import reinforce

TINY = jobs.SMALL.but(steps=10, workers=6, segment=12, network=LpgNetwork(hidden=4), episodes=10)
SHORT = jobs.GRID.but(max_steps=30)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    grids = Environments(env=SHORT)
    for name, value in {
        "LEARNER": TINY,
        "HELD_OUT": (10, 10),
        "POOL": 40,
        "FEW": 4,
        "TOP": 0.15,
        "SHIFTED": grids,
    }.items():
        monkeypatch.setattr(measures, name, value)
    monkeypatch.setattr(jobs, "GRID", SHORT)
    monkeypatch.setattr(jobs, "GRIDS", grids)


def by_hand(setting: Setting, name: str, families: list[Any], steps: int) -> list[Any]:
    """In place of meta-training: REINFORCE, or a first theta where there were no steps."""
    first = [TINY.network.init(Key.of(seed)) for seed in setting.seeds]
    return [reinforce(TINY.network, keep=0.8, strength=30.0) for _ in first] if steps else first


def verdicts(claims: Sequence[Claim], *, broken: bool) -> dict[str, str]:
    return {result.id: result.verdict for result in verify(claims, broken=broken, seeds=5).results}


def test_a_broken_treatment_fails_every_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "trained", by_hand)
    assert verdicts(CLAIMS, broken=True) == dict.fromkeys((claim.id for claim in CLAIMS), "fails")


def test_a_rule_that_works_is_found_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "trained", by_hand)
    about = [claim for claim in CLAIMS if claim.id in ("C1a", "C1b", "C4")]
    assert verdicts(about, broken=False) == {"C1a": "holds", "C1b": "holds", "C4": "holds"}


def test_what_is_measured_is_trained_on_what_the_claim_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "STEPS", (1, 1))
    monkeypatch.setattr(measures, "LEARNER", TINY.but(steps=5, workers=2))
    setting = Setting(seeds=(0, 1))
    groove, lpg, first = (measures.rules(setting, name) for name in ("groove", "lpg", "untrained"))
    assert measures.rules(setting, "groove") is groove
    for one, other, start in zip(groove, lpg, first, strict=True):
        # The buffer is empty at first, so the first levels are random ones, but not the same. Adam's first step says
        # little more than signs, so all weights are looked at.
        assert not torch.equal(flat(one), flat(other))
        assert not torch.equal(flat(one), flat(start))
    assert not torch.equal(flat(groove[0]), flat(groove[1]))


def flat(theta: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in theta.values()])
