"""How runs end before their time: what is not a number, Ctrl-C, and errors of a learner's own."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Experiment
from metaloop.errors import DivergedError
from metaloop.key import Key
from metaloop.outcome import Outcome, outcome
from metaloop.saving import load_progress
from metaloop.store import list_runs
from metaloop.testing.toys import Climb, Descent, Quadratics, Words
from torch import Tensor

from .methods import small, steps_with


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


class Trap(Descent):
    """Its loss or its gradient is not a number from some distance on."""

    beyond: float = 1.0
    gradient_only: bool = False

    def evaluate_one(self, theta: Any, state: Tensor, task: Any, key: Key) -> Outcome:
        loss = super().evaluate_one(theta, state, task, key).loss
        far = theta["start"].norm() > self.beyond
        if not self.gradient_only:
            return outcome(loss=torch.where(far, math.nan, loss))
        root = torch.sqrt(torch.where(far, 0.0 * theta["start"].sum(), 1.0))  # a number, but its slope is none
        return outcome(loss=loss + root - (~far).to(loss.dtype))


def diverges_at(learner: Any, limit: int = 40) -> int:
    """The first outer step whose loss or theta is not finite."""
    experiment = small(learner=learner, steps=limit)
    progress = experiment.begin()
    while True:
        progress = experiment.advance(progress)
        assert progress.outcome is not None
        broken = progress.theta.values() if learner.gradient_only else [progress.outcome.loss]
        if not all(bool(value.isfinite().all()) for value in broken):
            return progress.step


@pytest.mark.parametrize("gradient_only", [False, True])
@pytest.mark.parametrize("checkpoint_every", [1, 2, 100])
def test_a_loss_or_theta_that_is_not_a_number_stops_the_run(gradient_only: bool, checkpoint_every: int) -> None:
    learner = Trap(gradient_only=gradient_only)
    step = diverges_at(learner)
    assert step > 4
    experiment = small(learner=learner, steps=40, checkpoint_every=checkpoint_every)
    with pytest.raises(DivergedError) as caught:
        experiment.run(quiet=True)
    run = list_runs()[0]
    noticed = caught.value.step
    if not gradient_only:
        assert noticed == step  # also where it is noticed later
    else:
        assert step <= noticed <= step + checkpoint_every  # the loss shows it one step after
    assert f"step {noticed}" in str(caught.value)
    assert all(math.isfinite(row["loss"]) for row in run.history())
    assert [row["step"] for row in run.history()] == list(
        range(1, noticed if not gradient_only else len(run.history()) + 1)
    )
    assert run.status == "failed"
    assert "DivergedError" in run.info["summary"]["error"]
    kept = load_progress(run.path / "checkpoints", experiment)
    if checkpoint_every == 100:
        assert kept is None
        assert "no checkpoint" in str(caught.value)
        return
    assert kept is not None
    assert kept.step < noticed
    assert all(bool(value.isfinite().all()) for value in kept.theta.values())
    assert f"{kept.step:06d}" in str(caught.value)
    with pytest.raises(DivergedError, match=f"step {noticed}"):
        experiment.run(run=run, quiet=True)
    mended = experiment.but(learner=Trap(beyond=1e9, gradient_only=gradient_only)).run(run=run, quiet=True)
    assert mended.progress.step == 40
    assert steps_with(mended, "loss") == list(range(1, 41))
    assert not (run.path / "error.txt").exists()


def test_an_evaluation_that_is_not_a_number_stops_the_run() -> None:
    experiment = small(learner=Trap(beyond=1e9), eval_on=Quadratics(offset=math.inf), eval_tasks=2, eval_every=2)
    with pytest.raises(DivergedError, match="step 2"):
        experiment.run(quiet=True)
    assert [row["step"] for row in list_runs()[0].history()] == [1]


INTERRUPTED = """
import os, signal, sys, warnings
from metaloop import Experiment
from metaloop.hooks import hookimpl
from metaloop.testing.toys import Climb, Words

class Press:
    @hookimpl
    def steps_ended(self, rows):
        if rows[-1]["step"] == 5:
            os.kill(os.getpid(), int(sys.argv[1]))

experiment = Experiment(tasks=Words(), learner=Climb(), steps=100000, task_batch=1, checkpoint_every=5, device="cpu")
try:
    experiment.run(quiet=True, hooks=[Press()])
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_a_checkpoint_and_is_raised(root: Path, number: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(int(number))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout == "KeyboardInterrupt\n", done.stderr
    run = list_runs()[0]
    assert run.status == "interrupted"
    experiment = Experiment(tasks=Words(), learner=Climb(), steps=12, task_batch=1, device="cpu")
    stopped = load_progress(run.path / "checkpoints", experiment)
    assert stopped is not None
    assert stopped.step == 6  # the step after the one in which it was pressed
    assert run.history()[-1]["step"] == stopped.step
    resumed = experiment.run(run=run, quiet=True)
    straight = experiment.run(quiet=True)
    assert [{**row, "time": 0} for row in resumed.history] == [{**row, "time": 0} for row in straight.history]


def test_ctrl_c_leaves_the_signals_as_they_were() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    small(steps=1).run(quiet=True)
    with pytest.raises(DivergedError):
        small(learner=Trap(beyond=0.0)).run(quiet=True)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_learners_own_error_is_raised_and_noted() -> None:
    class Broken(Descent):
        def evaluate_one(self, theta: Any, state: Any, task: Any, key: Key) -> Outcome:
            raise ZeroDivisionError("own error")

    with pytest.raises(ZeroDivisionError, match="own error"):
        small(learner=Broken()).run(quiet=True)
    run = list_runs()[0]
    assert run.status == "failed"
    assert "own error" in (run.path / "error.txt").read_text()
