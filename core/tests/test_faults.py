"""Every operation on the disk fails once, or is the process's last; nothing readable is lost."""

import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from metaloop import checkpoint, disk
from metaloop.errors import UserError
from metaloop.store import Run, list_runs


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def tree(mark: int) -> dict[str, Any]:
    return {"theta": torch.full((300,), float(mark)), "mark": mark}


def loaded(folder: Path) -> tuple[int, int]:
    """Step and mark of what is in a folder; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.load(folder)
    assert found is not None
    assert torch.equal(found[1]["theta"], tree(found[1]["mark"])["theta"])
    return found[0], found[1]["mark"]


class Fault:
    """Lets operations pass until the `at`-th, which writes half and fails; `lasting`: and so do all later ones."""

    def __init__(self, at: int, lasting: bool) -> None:
        self.at, self.lasting, self.count = at, lasting, 0

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            if operation is os.write:
                os.write(args[0], args[1][: len(args[1]) // 2])
            raise OSError(28, "No space left on device")
        return operation(*args, **kwargs)


def faults(lasting: bool = False) -> Iterator[tuple[Fault, Any]]:
    """A fault for every operation that is done `with failing`, one after another."""
    for at in itertools.count(1):
        fault = Fault(at, lasting)
        yield fault, mock.patch.object(disk, "call", fault)
        if fault.count < at:
            return


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("same_step", [False, True])
def test_a_full_disk_keeps_the_checkpoints_before(tmp_path: Path, lasting: bool, same_step: bool) -> None:
    raised = 0
    for fault, failing in faults(lasting):
        folder, step = tmp_path / str(fault.at), 2 if same_step else 3
        checkpoint.save(folder, 1, tree(1))
        checkpoint.save(folder, 2, tree(2))
        try:
            with failing:
                checkpoint.save(folder, step, tree(9))
        except OSError:
            raised += 1
        assert loaded(folder) in [(2, 2), (step, 9)]
        assert not list(folder.glob("writing-*"))
        checkpoint.save(folder, 4, tree(4))
        assert loaded(folder) == (4, 4)
        names = {path.name for path in folder.iterdir()}
        assert len(names) == 2
        assert all(map(str.isdigit, names)), names
    assert raised >= 8


def test_a_full_disk_makes_a_whole_run_or_none(root: Path) -> None:
    refused = 0
    for _, failing in faults():
        before = len(list_runs())
        try:
            with failing:
                Run.create({}, name="run")
        except UserError as error:
            assert "No space left on device" in str(error)  # noqa: PT017 (some pass)
            refused += 1
        runs = list_runs()
        assert len(runs) - before in (0, 1)
        assert not runs.broken
        assert len(list(root.iterdir()) if root.exists() else []) == len(runs)
    assert refused >= 6


def test_a_full_disk_keeps_status_result_and_metrics() -> None:
    run = Run.create({}, name="run")
    run.write_result({"loss": 0})
    run.set_status("running", n=0)
    failed = 0
    for fault, failing in faults():
        n, before = fault.at, (run.info["summary"]["n"], run.result(), run.history())
        try:
            with failing:
                run.set_status("running", n=n)
                run.write_result({"loss": n})
                run.log([{"step": n}, {"step": n}])
                run.cut(n - 1)
        except OSError:
            failed += 1
        assert run.info["summary"]["n"] in (before[0], n)
        assert run.result() in (before[1], {"loss": n})
        assert run.history() in (before[2], [*before[2], {"step": n}, {"step": n}])
        assert not list(run.path.glob("*.tmp"))
    assert failed >= 12


KILLER = """
import itertools, os, signal, sys, warnings
from pathlib import Path
import torch
from metaloop import checkpoint, disk, provenance
from metaloop.store import Run, list_runs

warnings.simplefilter("error")

def killed_at(at, body):
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count = itertools.count(1)
    def call(operation, *args, **kwargs):
        if next(count) == at:
            if operation is os.write:
                os.write(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return operation(*args, **kwargs)
    disk.call = call
    body()
    os._exit(0)
"""

KILLS_IN_SAVE = """
folder, again = Path(sys.argv[1]), sys.argv[2] == "again"

def tree(mark):
    return {"theta": torch.full((300,), float(mark)), "mark": mark}

for at in itertools.count(1):
    if again or at == 1:
        folder = folder / str(at)
        checkpoint.save(folder, 0, tree(0))
        checkpoint.save(folder, 1, tree(1))
    before, old = checkpoint.load(folder)
    step = before if again else before + 1
    killed = killed_at(at, lambda: checkpoint.save(folder, step, tree(1000 + at)))
    now, new = checkpoint.load(folder)
    assert (now, new["mark"]) in [(before, old["mark"]), (step, 1000 + at)], (at, now, new["mark"])
    assert torch.equal(new["theta"], tree(new["mark"])["theta"])
    if not killed:
        assert (now, new["mark"]) == (step, 1000 + at)
        assert len(list(folder.iterdir())) == 2, list(folder.iterdir())
        print(at - 1)
        break
"""

KILLS_IN_A_RUN = """
def body():
    run = Run.create({}, name="killed")
    run.set_status("running", n=1)
    run.log([{"step": 1}])
    run.set_status("finished", n=2)

made = 0
for at in itertools.count(1):
    killed = killed_at(at, body)
    runs = list_runs()
    assert not runs.broken and len(runs) - made in (0, 1), at
    if len(runs) > made:
        made, run = len(runs), runs[0]
        assert run.status == ("finished" if run.info.get("summary") == {"n": 2} else "interrupted"), at
        assert run.history() in ([], [{"step": 1}])
        run.cut(0)
        run.log([{"step": 1}])
        assert run.history() == [{"step": 1}]
    if not killed:
        assert run.status == "finished"
        print(at - 1)
        break
"""


def kills(script: str, *arguments: str | Path) -> int:
    """How many kills the script survived."""
    command = [sys.executable, "-c", KILLER + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


@needs_fork
@pytest.mark.parametrize("which", ["next", "again"])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, which: str) -> None:
    assert kills(KILLS_IN_SAVE, tmp_path / "checkpoints", which) >= 10


@needs_fork
def test_a_kill_at_any_moment_leaves_whole_runs() -> None:
    assert kills(KILLS_IN_A_RUN) >= 15
