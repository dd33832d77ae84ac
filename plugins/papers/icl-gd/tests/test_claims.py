"""Every claim has been seen to fail: its broken treatment, measured small."""

from __future__ import annotations

import pytest
from metaloop import Key
from metaloop.claims import Claim, Setting, verify
from metaloop_icl_gd import measures
from metaloop_icl_gd.analysis import Model, best_descent
from metaloop_icl_gd.claims import CLAIMS
from metaloop_icl_gd.construction import construction
from metaloop_icl_gd.jobs import LINES
from metaloop_icl_gd.transformer import LSATransformer

SMALL = measures.Budget(20, 32)
LONGER = measures.Budget(400, 64)
"""For the claims whose broken treatment fails beside a trained baseline alone."""


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_broken_treatment_fails(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "HELD_OUT", 400)
    for name in ("ONE_LAYER", "TWO_LAYERS", "SINE"):
        monkeypatch.setattr(measures, name, (LONGER if claim.id in ("C6a", "C6c") else SMALL,) * 2)
    monkeypatch.setattr(measures, "SEPARATE", (SMALL._replace(steps=2),) * 2)
    if claim.id == "C4":
        monkeypatch.setattr(measures, "one_layer", well_trained)
    (result,) = verify([claim], broken=True, seeds=10 if claim.id == "C7a" else 5).results
    assert result.verdict == "fails", result.reason


def well_trained(setting: Setting) -> list[measures.Pair]:
    """Layers near the construction: those of a short training may have no scale to normalise by."""
    pairs = []
    for seed in setting.seeds:
        key = Key.of(seed)
        tasks = LINES.sample({}, 400, key).tasks
        theta = construction(LINES.inputs, eta=0.6)
        noisy = {name: value + 0.01 * key.fold(name).normal(*value.shape) for name, value in theta.items()}
        pairs.append(measures.Pair(Model(LSATransformer(), noisy), best_descent(1, tasks, whiten=False), tasks))
    return pairs


def test_interpolated_layers_near_the_construction_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "one_layer", well_trained)
    (result,) = verify(CLAIMS, only=["C4"], seeds=5).results
    assert result.verdict == "holds", result.reason


def test_the_construction_holds() -> None:
    (result,) = verify(CLAIMS, only=["C1"]).results
    assert result.verdict == "holds"
