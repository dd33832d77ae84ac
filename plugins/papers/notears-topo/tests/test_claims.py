"""Every claim has been seen to fail with its broken treatment; those without peers have been seen to hold, too.

On seeds that claims are not judged on, and small graphs. What NOTEARS and DAGMA find is not what is tested here, so
short searches stand in their place.
"""

from __future__ import annotations

import pytest
from metaloop.claims import verify
from metaloop_notears_topo import measures
from metaloop_notears_topo.claims import CLAIMS
from metaloop_notears_topo.topo import Topo

OWN = ("C1a", "C4", "C5a")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small graphs; for NOTEARS and DAGMA a search of one round, which is better than the order that it began with."""
    sizes = measures.Sizes(((6, 1),), ((6, 1),), ((8, 2), (10, 1)), (6, 1), (30, 4, 15, 6))
    monkeypatch.setattr(measures, "SIZES", sizes)
    for name in ("Notears", "Dagma"):
        monkeypatch.setattr(measures, name, lambda: Topo(steps=3, small=5, large=15))


def test_broken_treatments_fail() -> None:
    for result in verify(CLAIMS, seeds=8, broken=True, first_seed=100).results:
        assert result.verdict == "fails", (result.id, result.reason, result.treatment, result.baseline)


def test_claims_that_need_no_peer_hold_unbroken() -> None:
    for result in verify(CLAIMS, only=OWN, seeds=10, first_seed=100).results:
        assert result.verdict == "holds", (result.id, result.reason, result.treatment, result.baseline)
