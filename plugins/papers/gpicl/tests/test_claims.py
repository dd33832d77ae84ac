"""Every claim has been seen to fail: its broken treatment, measured small."""

from __future__ import annotations

import pytest
from metaloop.claims import Claim, verify
from metaloop_gpicl import measures
from metaloop_gpicl.claims import CLAIMS
from metaloop_gpicl.jobs import FIVE_WAYS, TEN_WAYS, training
from metaloop_gpicl.recurrent import Lstm
from metaloop_gpicl.seeds import train, train_all
from metaloop_gpicl.transformer import InContextTransformer

TINY = InContextTransformer(width=16, heads=2, feedforward=32)
FIXED = InContextTransformer(width=32, heads=2, feedforward=64, layers=1)
SMALL_LSTM = Lstm(width=32, layers=1)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_broken_treatment_fails(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "JUDGED": 300,
        "FITTED": 20,
        "STEPS": (2, 2),
        "LADDER_STEPS": (2, 2),
        "PLATEAU_STEPS": (100, 100) if claim.id == "C6c" else (2, 2),
        "TASKS": FIVE_WAYS.but(shots=8, queries=6),
        "PLATEAU_TASKS": TEN_WAYS.but(ways=5, shots=2, queries=4),
        "SMALL": TINY,
        "MAML": measures.MAML.but(inner_lr=0.1),  # adapts without having been meta-trained for long
        "LSTM": SMALL_LSTM,
        "LADDER": (SMALL_LSTM, TINY),
    }
    for name, value in small.items():
        monkeypatch.setattr(measures, name, value)
    if claim.id == "C6c":
        monkeypatch.setattr(measures, "training", lambda steps, **fields: training(steps, learner=FIXED, **fields))
    (result,) = verify([claim], broken=True, seeds=5).results
    assert result.verdict == "fails", result.reason


def test_trainings_in_two_processes_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = training(3, tasks=FIVE_WAYS.but(shots=4, queries=2), learner=TINY, task_batch=4, device="cpu")
    own = [experiment.but(seed=seed) for seed in (0, 1)]
    here = train_all(own)
    monkeypatch.setattr("metaloop_gpicl.seeds.WORTH_A_PROCESS", 0)
    told: list[float] = []
    there = train_all(own, on_progress=told.append)
    assert told == [0.5, 1.0]
    for one, other in zip(here, there, strict=True):
        assert all((one.theta[name] == other.theta[name]).all() for name in one.theta)


def test_a_training_ends_once_its_loss_is_below() -> None:
    experiment = training(
        6, tasks=FIVE_WAYS.but(shots=4, queries=2), learner=TINY, task_batch=4, eval_every=2, eval_tasks=8
    )
    assert train(experiment, below=100.0).steps == 2
    assert train(experiment, below=0.0).steps == 6
