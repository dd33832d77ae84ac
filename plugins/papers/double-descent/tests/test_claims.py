"""Every claim has been seen to fail with its broken treatment; the cheap ones have been seen to hold, too.

On seeds that claims are not judged on, and with short trainings.
"""

from __future__ import annotations

import pytest
from metaloop.claims import verify
from metaloop.claims.verify import VerifyReport
from metaloop_double_descent import measures, pools
from metaloop_double_descent.claims import CLAIMS
from metaloop_double_descent.grid import Factors

CHEAP = ("D1a", "D1b", "D1c", "D1d", "D2a", "D2b", "D3a", "D3b", "D4a", "D4b", "D4c")
ITERATED = tuple(claim.id for claim in CLAIMS if claim.id not in CHEAP)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few widths, few epochs, few configurations."""
    lengths = measures.Lengths(20, 20, ((1, 3), (2, 5), (2, 10)), network=(10, 30, 100), contrast=1000, perfect=500)
    small = {
        "LENGTHS": (lengths, lengths),
        "WIDTHS": (20, 80, 180, 200, 220, 240, 300, 800),
        "NETWORK_WIDTHS": (32, 48),
        "CONTRAST_WIDTHS": (8, 32, 48),
        "POOL": tuple(Factors(steps=steps) for steps in (1e2, 1e4, 1e6, 1e8)),
    }
    for name, value in small.items():
        monkeypatch.setattr(measures if hasattr(measures, name) else pools, name, value)


def measured(ids: tuple[str, ...], *, broken: bool) -> VerifyReport:
    return verify(CLAIMS, only=ids, seeds=8 if ids == CHEAP else 5, broken=broken, first_seed=100)


@pytest.mark.parametrize("ids", [CHEAP, ITERATED], ids=["closed form", "step by step"])
def test_broken_treatments_fail(ids: tuple[str, ...]) -> None:
    for result in measured(ids, broken=True).results:
        assert result.verdict == "fails", (result.id, result.reason, result.treatment)


def test_claims_about_the_closed_form_hold_unbroken() -> None:
    for result in measured(CHEAP, broken=False).results:
        assert result.verdict == "holds", (result.id, result.reason, result.treatment)
