"""Every claim has been seen to fail: its broken treatment, measured small."""

from __future__ import annotations

import pytest
from metaloop.claims import Setting, verify
from metaloop_ta_lpg import measures
from metaloop_ta_lpg.claims import CLAIMS
from metaloop_ta_lpg.jobs import SMALL
from metaloop_ta_lpg.schedule import Schedule

EXCHANGED = ("C1", "C3", "C4", "C5a", "C5b")
"""Claims of two methods whose broken treatment is one in the other's place."""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "PLAIN", measures.Sizes(1, 1, 1, (2, 3), 2, 2, 2))
    by_evolution, rule, drifting = measures.evolved, measures.small_rule, measures.drifting
    small = SMALL.but(lifetimes=(1, 3), env=SMALL.env.but(max_steps=20))
    cut = {"workers": 2, "episodes": 2, "segment": 5}

    def shorter(experiment):  # type: ignore[no-untyped-def]
        return experiment.but(tasks=small, learner=experiment.learner.but(**cut))

    monkeypatch.setattr(measures, "SMALL", small)
    monkeypatch.setattr(measures, "evolved", lambda *a, **k: shorter(by_evolution(*a, **k)))
    by_gradient = measures.by_gradient
    monkeypatch.setattr(measures, "by_gradient", lambda *a, **k: shorter(by_gradient(*a, lives=2, **k)))
    monkeypatch.setattr(measures, "small_rule", lambda inputs: rule(inputs, **cut))

    def brief(*args, **fields):  # type: ignore[no-untyped-def]
        experiment = drifting(*args, **fields)
        if experiment.steps == 0:  # beside the peer: long enough to learn something
            return experiment
        return experiment.but(learner=experiment.learner.but(steps=2, copies=2))

    monkeypatch.setattr(measures, "drifting", brief)


def test_a_broken_treatment_fails_the_claims_of_one_method(tiny: None) -> None:
    own = [claim for claim in CLAIMS if claim.id not in EXCHANGED]
    report = verify(own, broken=True, seeds=5)
    verdicts = {result.id: (result.verdict, result.reason) for result in report.results}
    assert {verdict for verdict, _ in verdicts.values()} == {"fails"}, verdicts
    assert len(verdicts) == len(CLAIMS) - len(EXCHANGED)


def test_an_exchanged_treatment_fails_where_the_claim_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(rule: str) -> dict[int, Schedule]:
        late, returned = (0.5, 2.0) if rule == "ta-lpg" else (1.4, 1.0)
        return {n: Schedule([1.0] * 5, [1.5] * (n - 1) + [late], returned) for n in (5, 30)}

    good = {"antithetic": 0.5, "independent": 0.2}
    monkeypatch.setattr(measures, "followed", lambda setting, rule: [fall(rule)] * len(setting.seeds))
    monkeypatch.setattr(measures, "agreement", lambda setting, how: [good[how]] * len(setting.seeds))

    def returns(setting: Setting, inputs: str, *, ppo: bool = False) -> list[float]:
        return [{"relative": 30.0, "off": 10.0 if ppo else 20.0}[inputs]] * len(setting.seeds)

    monkeypatch.setattr(measures, "drift_returns", returns)
    claims = [claim for claim in CLAIMS if claim.id in EXCHANGED]
    assert {result.verdict for result in verify(claims, seeds=5).results} == {"holds"}
    assert {result.verdict for result in verify(claims, seeds=5, broken=True).results} == {"fails"}
