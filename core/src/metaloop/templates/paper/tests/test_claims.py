"""Every claim holds on seeds that it is not judged on, and fails with its broken treatment."""

from __future__ import annotations

import pytest
from metaloop.claims import Claim, verify
from metaloop_template.claims import CLAIMS


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
@pytest.mark.parametrize(("broken", "verdict"), [(False, "holds"), (True, "fails")])
def test_verdicts(claim: Claim, broken: bool, verdict: str) -> None:
    (result,) = verify([claim], seeds=5, first_seed=100, broken=broken).results
    assert result.verdict == verdict, result.reason
