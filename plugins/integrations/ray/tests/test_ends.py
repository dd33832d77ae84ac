"""However a `metaloop run` on Ray ends, it leaves no process behind, and what it trained is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from metaloop import checkpoint
from metaloop.store import Run, list_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes as Linux shows them"),
]
SECONDS = 240.0
RUN = ["run", "basics/maml", "--device", "cpu", "--seeds", "4", "--executor", "ray"]
RUN += [
    "--set",
    "steps=10000000",
    "--set",
    "task_batch=4",
    "--set",
    "eval_tasks=0",
    "--set",
    "checkpoint_every=1000000",
]


def start(words: list[str], mark: str, runs: Path) -> subprocess.Popen[str]:
    """`metaloop` in a session of its own, where Ctrl-C is not ignored; all that it starts inherits the mark."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += f"; sys.argv = ['metaloop', *{words!r}]; from metaloop.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"METALOOP_PLUGINS": "core,basics,ray", "METALOOP_RUNS": str(runs), "MARK_OF_A_TEST": mark}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[str]:
    """The command lines of the processes that carry the mark."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and f"MARK_OF_A_TEST={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended, or it is somebody else's
    return found


def wait_for(what: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def stepping(runs: Path, beyond: int = 0) -> list[Run]:
    """The seeds whose last written step is beyond."""
    found = [child for run in list_runs(runs) for child in run.children()]
    return [child for child in found if any(row["step"] > beyond for row in child.history()[-1:])]


def test_ctrl_c_keeps_checkpoints_and_neither_it_nor_a_kill_leaves_a_process(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = start(RUN, mark, tmp_path)
    wait_for(lambda: stepping(tmp_path), process)
    assert any("raylet" in line for line in marked(mark))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    [run] = list_runs(tmp_path)
    assert said.replace("\n", " ").strip().endswith(f"metaloop resume {run.id}")
    assert run.status == "interrupted"
    begun = [child for child in run.children() if child.history()]
    steps = [checkpoint.newest(child.path / "checkpoints") or 0 for child in begun]
    assert min(steps) > 0
    assert {child.status for child in begun} == {"interrupted"}
    wait_for(lambda: not marked(mark))

    process = start(["resume", run.id], mark, tmp_path)
    wait_for(lambda: stepping(tmp_path, beyond=max(steps)), process)
    process.kill()
    process.communicate(timeout=SECONDS)
    wait_for(lambda: not marked(mark))
