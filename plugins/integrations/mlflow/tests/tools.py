"""Real `metaloop` processes, real MLflow servers, and what there must be in MLflow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from metaloop import Experiment
from metaloop.hooks import hookimpl
from metaloop.store import Run
from metaloop_basics.learners.maml import Maml
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import Sinusoid
from metaloop_mlflow.hooks import WAIT
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

PATIENCE = 240.0
"""Seconds after which something that should happen has not; a busy machine is slow."""
TINY = ["--set", "task_batch=2", "--set", "eval_tasks=4", "--set", "eval_every=20", "--device", "cpu"]

# `metaloop` whose run stops at a step, with every row written at once.
GATED = """
import sys, time
from metaloop import loop, plugins
from metaloop.cli import main
from metaloop.hooks import hookimpl
from metaloop.manifest import Plugin

at, loop._FLUSH_ROWS = int(sys.argv.pop(1)), 1

class Gate:
    @hookimpl
    def steps_ended(self, rows):
        if rows[-1]["step"] >= at:
            time.sleep(3600)

plugins.register(Plugin("gate", "waits", hooks="__main__:Gate"))
main()
"""


def environment(**more: str) -> dict[str, str]:
    """This process's environment with tracking on, in the embedded store unless *more* names another."""
    env = {name: value for name, value in os.environ.items() if name not in ("METALOOP_TRACKING_URI", "METALOOP_RUNS")}
    return env | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", WAIT: str(PATIENCE), **more}


def metaloop(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "metaloop", *words],
        cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip


class Gated:
    """`metaloop run` that stops at a step; killed at the end of the `with` block at the latest."""

    def __init__(self, folder: Path, at: int, *words: str) -> None:
        self._command, self._folder = [sys.executable, "-c", GATED, str(at), *words], folder

    def __enter__(self) -> Gated:
        self._process = subprocess.Popen(self._command, cwd=self._folder, env=environment())
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def tiny(steps: int, **more: Any) -> Experiment:
    """An experiment of milliseconds."""
    small = {"task_batch": 2, "eval_tasks": 4, "eval_every": 20, "device": "cpu", "name": "tiny"}
    parts = {"tasks": Sinusoid(), "learner": Maml(steps=1), "meta_optimizer": Gradient()}
    return Experiment.model_validate({**parts, **small, "steps": steps, **more})


class AtStep:
    """A listener that does something, once, when the rows of a step are on the disk; the run waits meanwhile."""

    def __init__(self, step: int, action: Callable[[Run], object]) -> None:
        self._step, self._action, self.done = step, action, False

    @hookimpl
    def steps_ended(self, run: Run, rows: Any) -> None:
        if not self.done and rows[-1]["step"] >= self._step:
            self.done = True
            self._action(run)


class LiveServer:
    """MLflow's tracking server on a free port, over a folder of its own; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def start(self) -> None:
        store, artifacts = f"sqlite:///{self._folder}/server.db", f"{self._folder}/artifacts"
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port),
                 "--workers", "1", "--backend-store-uri", store, "--artifacts-destination", artifacts],
                cwd=self._folder, stdout=log, stderr=log, start_new_session=True,
                env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true"),
            )  # fmt: skip
        until(self._answers)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
            return True
        return False


class Proxy:
    """Hands bytes on between clients and a server, and on demand holds them back for ever."""

    def __init__(self, to: str) -> None:
        self._to = int(to.rpartition(":")[2])
        self._flows = threading.Event()
        self._flows.set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def hangs(self) -> bool:
        return not self._flows.is_set()

    def hang(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self._socket.close()
        self._flows.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._hand_on, args=(one, other), daemon=True).start()

    def _hand_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError), one, other:
            while data := one.recv(65536):
                self._flows.wait()
                other.sendall(data)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found


def embedded(folder: Path) -> MlflowClient:
    """The store beside the runs of a folder."""
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def only_run(folder: Path) -> Run:
    """The one outermost run that is stored in a folder."""
    (path,) = (path for path in (folder / "runs").iterdir() if (path / "run.json").is_file())
    return Run(path)


def tracked(client: MlflowClient, run: Run) -> list[MlflowRun]:
    """What MLflow has of a run."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`metaloop.run` = '{run.id}'"))


def last_step(client: MlflowClient, run: Run) -> int:
    """The last step of which MLflow has the loss."""
    found = tracked(client, run) if client.search_experiments() else []
    return max((m.step for one in found for m in client.get_metric_history(one.info.run_id, "loss")), default=0)


def assert_all_rows_once(client: MlflowClient, run: Run) -> MlflowRun:
    """MLflow has every number of every row of a run exactly once, with its step, time and value, and no other."""
    (found,) = tracked(client, run)
    expected: dict[str, Counter[tuple[int, int, float]]] = {}
    for row in run.history():
        for key, value in row.items():
            if key not in ("step", "time"):
                expected.setdefault(key, Counter())[row["step"], round(1000 * row["time"]), value] += 1
    for key, values in expected.items():
        history = client.get_metric_history(found.info.run_id, key)
        assert Counter((m.step, m.timestamp, m.value) for m in history) == values, key
    closing = {"steps", "seconds", "first_step_seconds", "throughput/tasks_per_second"}
    others = found.data.metrics.keys() - expected.keys() - closing
    assert all(key.startswith("system/") for key in others), others
    return found


def mirrors(folder: Path) -> list[psutil.Process]:
    """The mirror processes of runs in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "metaloop_mlflow.mirror" in words and words[-1].startswith(str(folder)):
                found.append(process)
    return found


def warnings_in(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("warning:")]
