"""Every claim has been seen to fail: its broken treatment, measured small on easy tasks."""

from __future__ import annotations

import pytest
from metaloop.claims import Claim, verify
from metaloop_mdpo import measures
from metaloop_mdpo.baselines import Peer
from metaloop_mdpo.claims import CLAIMS
from metaloop_mdpo.contest import Budget
from metaloop_mdpo.on_policy import OnPolicyGym
from metaloop_rl.tasks import GymTasks

from .point import GYM_POINT

QUICK = OnPolicyGym(lr=3e-3, value_lr=0.01, t=3.0, value_epochs=1)
SMALL = measures.Lengths(Budget(steps=1536, row=256, copies=8), Budget(steps=160, row=20, copies=1))


@pytest.fixture
def easy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poles and points instead of MuJoCo, with high learning rates."""
    carts = GymTasks(id="CartPole-v1")
    monkeypatch.setattr(measures, "LENGTHS", (SMALL, SMALL))
    monkeypatch.setattr(measures, "TASKS", {"hopper": carts, "pendulum": carts, "swing-up": GymTasks(id=GYM_POINT)})
    sac = {"learning_starts": 50, "learning_rate": 5e-3, "batch_size": 64, "policy_kwargs": {"net_arch": (32,)}}
    others = {
        "one step": QUICK.but(sgd_steps=1),
        **dict.fromkeys(("mdpo", "tuned mdpo"), QUICK),
        **dict.fromkeys(("ppo", "tuned ppo"), Peer(options={"learning_rate": 5e-3})),
        **dict.fromkeys(("trpo", "tuned trpo"), Peer(algorithm="TRPO", options={"target_kl": 0.1})),
        "off-policy mdpo": measures.CONTENDERS["off-policy mdpo"].but(warmup=50, rows=8),
        "sac": Peer(algorithm="SAC", options=sac),
    }
    monkeypatch.setattr(measures, "CONTENDERS", others)


def test_a_broken_treatment_fails_every_claim(easy: None) -> None:
    report = verify(CLAIMS, broken=True, seeds=5)
    verdicts = {result.id: (result.verdict, result.reason) for result in report.results}
    assert not {id: judged for id, judged in verdicts.items() if judged[0] != "fails"}


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.id.startswith("C1")], ids=lambda claim: claim.id)
def test_what_is_exact_holds(claim: Claim) -> None:
    (result,) = verify([claim], seeds=2).results
    assert result.verdict == "holds", result.reason
