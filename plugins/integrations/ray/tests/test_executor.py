"""A local Ray cluster gives the numbers of one process, sends a theta once, and outlives its workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_parts as parts
import torch
from metaloop import Experiment, Options, checkpoint, plugins, testing
from metaloop.claims import verify
from metaloop.cli import app
from metaloop.engine import Engine
from metaloop.errors import RunError, UserError
from metaloop.executors import Executor, InProcess
from metaloop.key import Key
from metaloop.objective import TaskObjective
from metaloop.outcome import Outcome
from metaloop.store import Run, list_runs
from metaloop.sweep import Sweep
from metaloop.testing.toys import Descent, Quadratics
from metaloop_ray.executor import RayExecutor
from typer.testing import CliRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
        patch.setenv("METALOOP_PLUGINS", "core,basics,ray")
        plugins.refresh()
        yield
    plugins.refresh()  # or the plugins of other tests in this process stay blocked


def test_the_plugin_is_sound() -> None:
    testing.check_plugin("ray")


def objective(executor: Executor, tasks: int) -> TaskObjective[Any]:
    return TaskObjective(Engine(parts.Runs(), executor), parts.Numbers(), {}, tasks, Key.of(0))


def same(one: Outcome, other: Outcome) -> None:
    assert torch.equal(one.loss, other.loss)
    assert len(one.info or []) == len(other.info or [])


def test_object_tasks_have_the_numbers_of_one_process_and_theta_travels_once(executor: RayExecutor, log: Path) -> None:
    theta = parts.Program(7)
    before, out = parts.Program.packed, objective(executor, 24)(theta)
    assert parts.Program.packed == before + 1
    same(out, objective(InProcess(), 24)(theta))
    unpacked = log.read_text().split("\n")[:-1]
    assert 1 <= len(unpacked) == len(set(unpacked)) <= 2  # once per worker
    assert out.info == [{"threads": 1}] * 24


def test_a_population_has_the_numbers_of_one_process_and_each_candidate_travels_once(
    executor: RayExecutor, log: Path
) -> None:
    thetas = [parts.Program(number) for number in (10, 20, 30)]
    before, out = parts.Program.packed, objective(executor, 8).many(thetas)
    assert parts.Program.packed == before + 3
    assert out.loss.shape == (3, 8)
    same(out, objective(InProcess(), 8).many(thetas))
    unpacked = log.read_text().split("\n")[:-1]
    assert 3 <= len(unpacked) == len(set(unpacked)) <= 6  # once per worker and candidate
    same(objective(executor, 3).many(thetas, each=True), objective(InProcess(), 3).many(thetas, each=True))


def test_a_sweep_has_the_numbers_of_one_process(executor: RayExecutor) -> None:
    experiment = Experiment(tasks=Quadratics(), learner=Descent(), steps=4, task_batch=2)
    sweep = Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 1e30)}), seeds=(0, 1))
    here, there = sweep.run(quiet=True), sweep.but(executor=executor).run(quiet=True)
    assert [(row["status"], row["summary"].get("loss")) for row in there.rows] == [
        (row["status"], row["summary"].get("loss")) for row in here.rows
    ]
    assert "not finite" in there.failed[0]["error"]
    assert (Run.open(there.failed[0]["run"]).path / "error.txt").is_file()


def test_claims_of_a_group_are_measured_together(executor: RayExecutor, log: Path) -> None:
    spread = verify(parts.CLAIMS, executor=executor, target="ray_parts:CLAIMS")
    trained = log.read_text().split("\n")[:-1]
    assert len(trained) == 2  # once for the group A, once for B
    assert str(os.getpid()) not in " ".join(trained)
    here = verify(parts.CLAIMS)
    assert [(r.id, r.verdict, r.treatment) for r in spread.results] == [
        (r.id, r.verdict, r.treatment) for r in here.results
    ]


def test_a_worker_that_is_killed_costs_a_retry(executor: RayExecutor, tmp_path: Path) -> None:
    found = dict(executor.map(parts.die_once, [(str(tmp_path), number) for number in range(8)]))
    assert (tmp_path / "died").exists()
    assert found == {number: number**2 for number in range(8)}


def test_an_item_that_kills_every_worker_is_named(executor: RayExecutor) -> None:
    with pytest.raises(RunError, match="a worker process died while item 1 was in work"):
        list(executor.but(retries=0).map(parts.die, range(3)))


def test_an_item_that_fails_is_named_and_the_run_keeps_its_checkpoint(executor: RayExecutor) -> None:
    experiment = Experiment(
        tasks=parts.Numbers(), learner=parts.Runs(), meta_optimizer=parts.Counts(), steps=9, task_batch=5
    )
    with pytest.raises(RunError, match="item 2 failed: ValueError: three is too many"):
        experiment.but(executor=executor, checkpoint_every=1).run(quiet=True)
    (run,) = list_runs()
    assert run.status == "failed"
    assert 'raise ValueError("three is too many")' in (run.path / "error.txt").read_text()
    assert checkpoint.newest(run.path / "checkpoints") == 3


def test_what_is_left_is_interrupted_as_by_ctrl_c(executor: RayExecutor, tmp_path: Path) -> None:
    results = executor.map(parts.begun, [str(tmp_path), "", *[str(tmp_path)] * 50])
    assert next(iter(results)) == (1, "quick")
    while len(list(tmp_path.glob("* began"))) < 2:
        time.sleep(0.05)
    results.close()  # type: ignore[attr-defined]
    began = sorted(path.name.split()[0] for path in tmp_path.glob("* began"))
    assert began == sorted(path.name.split()[0] for path in tmp_path.glob("* interrupted"))
    assert len(began) == 2
    assert dict(executor.map(abs, range(3))) == {0: 0, 1: 1, 2: 2}


def test_more_gpus_than_there_are_is_a_mistake(executor: RayExecutor) -> None:
    with pytest.raises(UserError, match="gpus: an item asks for 999"):
        list(executor.but(gpus=999).map(abs, [1]))


CALLED_OFF = """
import _thread, sys, threading
from metaloop_ray.worker import Surroundings

assert "torch" not in sys.modules
threading.Timer(0.2, _thread.interrupt_main).start()
try:
    Surroundings.here().enter()
except KeyboardInterrupt:
    print("interrupted")
import torch
print(torch.ones(1).item())
"""


def test_a_worker_that_is_called_off_while_it_imports_torch_is_of_use_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", CALLED_OFF], capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n1.0\n", done.stderr


SCRIPT = """
from metaloop_ray.executor import RayExecutor

class Mine:
    def __init__(self, number):
        self.number = number

def double(mine):
    return Mine(2 * mine.number)

print([mine.number for _, mine in sorted(RayExecutor().map(double, [Mine(21), Mine(4)]), key=lambda row: row[0])])
"""


def test_a_cluster_of_somebody_else_is_joined_and_left_running(executor: RayExecutor, tmp_path: Path) -> None:
    import ray

    list(executor.map(abs, [1]))
    address = ray.get_runtime_context().gcs_address
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "RAY_ADDRESS": address}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[42, 8]\n", done.stderr
    assert dict(executor.map(abs, [-1])) == {0: 1}


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1"),
        ("ray://head:10001", "The Ray address 'ray://head:10001' is not one"),
        ("head", "The Ray address 'head' is not one"),
    ],
)
def test_a_wrong_address_is_one_sentence(
    address: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    result = CliRunner().invoke(
        app, ["run", "basics/maml", "--seeds", "2", "--executor", "ray"], catch_exceptions=False
    )
    assert result.exit_code == 2, result.output
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {sentence}")
    assert not list_runs()
