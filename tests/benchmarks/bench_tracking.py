"""What tracking with MLflow adds to a run of 10,000 steps of some 5 ms, each of them logged.

Whole runs are timed, from the call to its return: the start of the process that mirrors the run, the making of the
SQLite store (each tracked run has a folder of its own), and the wait for the last rows at the end are in.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench_core_overhead import Idle, Look, Nothing, Theta
from common import arguments, compare, report
from metaloop.experiment import Experiment
from metaloop.key import Key
from metaloop.outcome import Outcome
from metaloop.tracking import OFF, VARIABLE
from torch import Tensor

STEP_SECONDS = 0.005
_SQUARE = torch.rand(128, 128) / 128


class Works(Idle):
    """Learns nothing, but multiplies matrices meanwhile."""

    products: int

    def evaluate(self, theta: Theta, state: Tensor, tasks: Tensor, keys: Key) -> Outcome:
        multiply(self.products)
        return super().evaluate(theta, state, tasks, keys)


def multiply(times: int) -> None:
    """So much work."""
    value = _SQUARE
    for _ in range(times):
        value = value @ _SQUARE


def products_per_step() -> int:
    """How many products take the time of a step on this machine."""
    multiply(2000)
    started = time.perf_counter()
    multiply(5000)
    return max(1, round(5000 * STEP_SECONDS / (time.perf_counter() - started)))


class Runs:
    """Runs the experiment, tracked or not, each time in a new folder."""

    def __init__(self, experiment: Experiment, tracked: bool) -> None:
        self.experiment, self.tracked = experiment, tracked

    def __call__(self) -> None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ[VARIABLE] = "" if self.tracked else OFF
        with tempfile.TemporaryDirectory() as folder:
            self.experiment.run(root=Path(folder, "runs"), quiet=True)
            if (found := rows_in(Path(folder, "mlflow.db"))) != (self.experiment.steps if self.tracked else 0):
                raise SystemExit(f"MLflow has {found} of {self.experiment.steps} rows: this measures nothing")


def rows_in(database: Path) -> int:
    """For how many steps a store has the loss."""
    if not database.exists():
        return 0
    with sqlite3.connect(database) as store:
        return int(store.execute("select count(*) from metrics where key = 'loss'").fetchone()[0])


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", {"steps": "steps of a run (10000)"}, rounds=8)
    steps = int(given.steps or 10_000)
    experiment = Experiment(
        tasks=Nothing(),
        learner=Works(products=products_per_step()),
        meta_optimizer=Look(),
        steps=steps,
        device="cpu",
        name="tracked",
    )
    facts: dict[str, Any] = {"steps": steps, "aim for the ratio": "1.02 or less at 10,000 steps"}
    untracked, tracked = Runs(experiment, tracked=False), Runs(experiment, tracked=True)
    rows = [compare("run", ("untracked", untracked), ("tracked", tracked), rounds=given.rounds, warmup=0)]
    facts["a step, untracked (ms)"] = rows[0].first_ms / steps
    report("Cost of tracking", rows, facts, given)


if __name__ == "__main__":
    main()
