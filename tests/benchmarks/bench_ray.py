"""A population of CPU-bound evaluations on Ray: from one worker to two, beside other executors, and what an item costs.

The constants at the end feed the model in docs/scaling.md.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any, ClassVar, Literal

import numpy as np
import ray
from common import Comparison, arguments, compare, report
from metaloop.engine import Engine
from metaloop.executors import Executor, InProcess, ProcessPool
from metaloop.key import Key
from metaloop.learner import PerObject
from metaloop.objective import TaskObjective
from metaloop.outcome import Draw, Outcome, outcome
from metaloop.specs import Spec, TextSpec
from metaloop.tasks import TaskFamily
from metaloop_ray import worker
from metaloop_ray.executor import RayExecutor

CANDIDATES, TASKS = 8, 4
"""Items per step: 32."""
SIZE = 1_000_000
"""Turns of a loop: 50 to 100 ms on a core."""


class Numbers(TaskFamily[list[int], Any]):
    """The tasks 0, 1, 2, ..."""

    @property
    def spec(self) -> Spec:
        return TextSpec()

    def sample(self, state: Any, n: int, key: Key) -> Draw[list[int]]:
        return Draw(list(range(n)))


class Counts(PerObject[int, int, None]):
    """Pure Python arithmetic for some 70 ms; theta is a whole number."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "object"

    def check(self, spec: Spec) -> None:
        return None

    def begin_one(self, theta: int, task: int, key: Key) -> None:
        return None

    def evaluate_one(self, theta: int, state: None, task: int, key: Key) -> Outcome:
        total = theta + task
        for i in range(SIZE):
            total = (total * 31 + i) % 65_537
        return outcome(fitness=float(total))


class Step:
    """One population evaluated on an executor."""

    def __init__(self, executor: Executor) -> None:
        self.objective: TaskObjective[int] = TaskObjective(Engine(Counts(), executor), Numbers(), {}, TASKS, Key.of(0))

    def __call__(self) -> Outcome:
        return self.objective.many(list(range(CANDIDATES)))


def nothing(item: object) -> None:
    """An empty item."""


def item_cost(executor: Executor, items: int, rounds: int) -> tuple[float, float]:
    """Microseconds per empty item: median and interquartile range over rounds."""
    list(executor.map(nothing, range(items)))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        list(executor.map(nothing, range(items)))
        times.append(1e6 * (time.perf_counter() - started) / items)
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)


def put_cost(megabytes: int, rounds: int) -> float:
    """Milliseconds per MB to pack a theta and put it into the object store."""
    theta = np.random.default_rng(0).bytes(megabytes * 2**20)
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        worker.put(worker.packed(theta))
        times.append(1e3 * (time.perf_counter() - started) / megabytes)
    return statistics.median(times[1:])


def modelled(workers: int, seconds: float, item_us: float, put_ms: float) -> float:
    """Efficiency of a step by the model of docs/scaling.md: items per worker, theta and machines as there."""
    theta_mb, rounds, per_machine, gigabits = 100, 10, 16, 10
    machines = math.ceil(workers / per_machine)
    share = theta_mb * put_ms / 1e3 + machines * theta_mb * 8 / (1e3 * gigabits)
    work = rounds * seconds
    return work / (share + max(work, workers * rounds * item_us / 1e6))


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "")
    one, two = Step(RayExecutor(workers=1)), Step(RayExecutor(workers=2))
    here, pool, narrow = Step(InProcess()), Step(ProcessPool(workers=2)), Step(ProcessPool(workers=1))
    ways = {"Ray": two, "ProcessPool": pool}
    for step in (two, pool, narrow):
        assert bool((step().fitness == here().fitness).all())
    rows = [
        compare("Ray, 1 to 2 workers", ("2 workers", two), ("1 worker", one), rounds=given.rounds),
        compare("pool, 1 to 2 workers", ("2 workers", pool), ("1 worker", narrow), rounds=given.rounds),
        compare("1 worker or none", ("in process", here), ("Ray, 1 worker", one), rounds=given.rounds),
        compare("2 workers", ("ProcessPool", pool), ("Ray", two), rounds=given.rounds),
    ]
    items = CANDIDATES * TASKS
    costs = {name: item_cost(step.objective._engine.executor, 2000, given.rounds) for name, step in ways.items()}
    put_ms = put_cost(64, min(given.rounds, 10))
    facts: dict[str, Any] = {
        "efficiency of Ray's 2 workers (speed-up / 2)": efficiency(rows[0]),
        "efficiency of the pool's 2 workers": efficiency(rows[1]),
        "one evaluation in process (ms)": rows[2].first_ms / items,
        **{
            f"an empty item, {name} (us)": f"{us:.0f} (interquartile range {iqr:.0f})"
            for name, (us, iqr) in costs.items()
        },
        "packing and putting a theta (ms per MB)": put_ms,
        "bytes of an object task's item": len(worker.packed((0, 0, Key.of(0).data))),
        "bytes put per map beside theta": len(worker.packed(Counts())),
    }
    for workers in (100, 1000):
        for seconds in (0.07, 1.0, 10.0):
            share = modelled(workers, seconds, costs["Ray"][0], put_ms)
            facts[f"model: {workers} workers, items of {seconds:g} s"] = f"efficiency {share:.2f}"
    report("Independent work on Ray", rows, facts, given)
    ray.shutdown()


def efficiency(row: Comparison) -> str:
    """Speed-up over the number of workers, with the ratio's interval."""
    return f"{row.ratio / 2:.3f} ({row.low / 2:.3f} to {row.high / 2:.3f})"


if __name__ == "__main__":
    main()
