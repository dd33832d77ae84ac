"""`kill -9` of a real `metaloop run` at many moments, then `metaloop resume`: the run is the uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from metaloop import checkpoint
from metaloop.store import Run, list_runs
from metaloop.testing.compare import difference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills as Unix does"),
]

STEPS = 200
SETTINGS = {"steps": STEPS, "task_batch": 4, "eval_tasks": 8, "eval_every": 40, "checkpoint_every": 8}
RUN = ["run", "basics/maml", "--device", "cpu", *(word for k, v in SETTINGS.items() for word in ("--set", f"{k}={v}"))]
TIMED_KILLS = 7

# `metaloop` whose process dies at the n-th operation on the disk inside its m-th checkpoint, or of its m-th row of
# metrics; a write is cut in half.
DIES_INSIDE = """
import os, signal, sys
from metaloop import checkpoint, disk, store
from metaloop.cli import main

place, which, at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
del sys.argv[1:4]
inside = {"times": 0, "operations": 0, "now": False}

def watched(function):
    def call(*args, **kwargs):
        inside.update(times=inside["times"] + 1, now=inside["times"] + 1 == which)
        try:
            return function(*args, **kwargs)
        finally:
            inside["now"] = False
    return call

def call(operation, *args, **kwargs):
    inside["operations"] += inside["now"]
    if inside["now"] and inside["operations"] == at:
        if operation is os.write:
            os.write(args[0], args[1][: len(args[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return operation(*args, **kwargs)

if place == "checkpoint":
    checkpoint.save = watched(checkpoint.save)
else:
    store.Run.log = watched(store.Run.log)
disk.call = call
main()
"""
# In a checkpoint: 1 its folder, 2-4 the tensors, 5-7 the skeleton, 8 flush the folder, 9 the rename, 10 flush, 11-12
# remove an old one. In a row of metrics: 1 open, 2 write.
INSIDE = [("checkpoint", 3, 3), ("checkpoint", 5, 6), ("metrics", 4, 2), ("checkpoint", 4, 9), ("checkpoint", 4, 12)]


def command(*words: str, dies: tuple[str, int, int] | None = None) -> list[str]:
    """`metaloop` in a process of its own."""
    start = ["-m", "metaloop"] if dies is None else ["-c", DIES_INSIDE, *map(str, dies)]
    return [sys.executable, *start, *words]


def begin(words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "METALOOP_PLUGINS": "core,basics"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    output, _ = process.communicate(timeout=200)
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode


def wait_until_running(process: subprocess.Popen[str], root: Path, updated: str | None) -> None:
    """Until the process has begun to step: its run says so, later than `updated`."""
    while process.poll() is None:
        found = list_runs(root)
        if found and found[0].info.get("updated") not in (None, updated):
            return
        time.sleep(0.003)


def final(run: Run) -> Any:
    """What must be equal: the whole checkpoint, the history without times, the closing numbers without seconds."""
    stored = checkpoint.load(run.path / "checkpoints")
    assert stored is not None
    timing = ("seconds", "first_step_seconds")
    result = {name: value for name, value in (run.result() or {}).items() if name not in timing}
    return stored, [{**row, "time": 0} for row in run.history()], result


def resume_to_the_end(run: Run) -> None:
    assert run.status in ("interrupted", "finished")
    assert finish(begin(command("resume", str(run.path), "--quiet"))) == 0
    assert run.status == "finished"


def timed_kills(root: Path, seconds: float) -> Iterator[int]:
    """Kill a run and those who resume it, each after a share of what the whole takes; yields what each left."""
    kills = 0
    while kills < TIMED_KILLS:
        left = [run for run in list_runs(root) if run.status != "finished"]
        words = (
            command("resume", str(left[0].path), "--quiet") if left else command(*RUN, "--quiet", "--runs", str(root))
        )
        process = begin(words)
        wait_until_running(process, root, left[0].info.get("updated") if left else None)
        time.sleep(seconds * (0.05 + 0.25 * (kills % 4) / 3))
        process.kill()
        if finish(process) == -signal.SIGKILL:
            kills += 1
            yield checkpoint.newest(list_runs(root)[0].path / "checkpoints") or 0
    for run in list_runs(root):
        resume_to_the_end(run)


def kills_inside(root: Path) -> int:
    """Kill a run, and those who resume it, in the middle of writing."""
    kills = 0
    for dies in INSIDE:
        found = list_runs(root)
        words = ["resume", str(found[0].path), "--quiet"] if found else [*RUN, "--quiet", "--runs", str(root)]
        kills += finish(begin(command(*words, dies=dies))) == -signal.SIGKILL
        (run,) = list_runs(root)
        assert run.status == "interrupted"
    resume_to_the_end(run)
    return kills


@pytest.mark.timeout(600)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    process = begin(command(*RUN, "--quiet", "--runs", str(tmp_path / "whole")))
    wait_until_running(process, tmp_path / "whole", None)
    start = time.monotonic()
    assert finish(process) == 0
    seconds = time.monotonic() - start
    (whole,) = list_runs(tmp_path / "whole")
    expected = final(whole)
    assert [row["step"] for row in whole.history() if "loss" in row] == list(range(1, STEPS + 1))

    with ThreadPoolExecutor(2) as threads:
        inside = threads.submit(kills_inside, tmp_path / "inside")
        lost = list(timed_kills(tmp_path / "timed", seconds))
        assert inside.result() == len(INSIDE)
    assert len(lost) + len(INSIDE) >= 10
    assert len(set(lost)) >= 2, f"the kills came at {lost}"  # how far apart they are is up to the machine
    for folder in ("inside", "timed"):
        for run in list_runs(tmp_path / folder):
            assert difference(final(run), expected) is None
            assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["000192", "000200"]
