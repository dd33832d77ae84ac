"""The live table of a sweep: read from the runs' folders, one line per run, and silent where nobody looks."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from metaloop import Experiment, Options, Pipeline, ProcessPool, show
from metaloop.follow import Follower
from metaloop.stage import Context
from metaloop.store import Run
from metaloop.sweep import Sweep
from metaloop.testing.toys import Descent, Quadratics
from rich.console import Console

pytestmark = pytest.mark.usefixtures("lab")


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(tasks=Quadratics(), learner=Descent(), steps=4, task_batch=2)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal of 100 columns and 12 lines."""
    written = io.StringIO()
    monkeypatch.setattr(
        show, "console", lambda: Console(file=written, force_terminal=True, width=100, height=12, color_system=None)
    )
    return written


def last_frame(screen: io.StringIO) -> list[str]:
    """The lines that stood there last, just before the table was taken away."""
    frames = [text for text in re.split(r"(?:\x1b\[[0-9;?]*[A-Za-z]|\r)+", screen.getvalue()) if text.strip()]
    return [line.rstrip() for line in frames[-1].splitlines() if line.strip()]


def test_a_sweep_shows_a_line_per_run_and_how_many_are_done(experiment: Experiment, screen: io.StringIO) -> None:
    Sweep(base=experiment, grid=Options({"learner.lr": (0.1, 1e30)}), seeds=(0, 7)).run()
    lines = last_frame(screen)
    assert lines[0] == "sweep"
    assert re.search(r"lr +seed +step +time +latest", lines[1])
    assert any(re.search(r"0\.1 +7 +finished +4 of 4 +0:00:\d\d +loss [\d.]+", line) for line in lines)
    assert any(re.search(r"1e\+30 +0 +failed +.*DivergedError: .*not finite", line) for line in lines)
    assert re.search(r"2 of 4 done, 0 running, 2 failed", lines[-1])


def test_more_runs_than_fit_leave_the_latest_in_the_table(experiment: Experiment, screen: io.StringIO) -> None:
    Sweep(base=experiment, seeds=tuple(range(20))).run()
    lines = last_frame(screen)
    assert len(lines) <= 12
    seeds = [int(line.split()[0]) for line in lines if "finished" in line]
    assert seeds == sorted(seeds, reverse=True)
    assert seeds[0] == 19
    assert "20 of 20 done" in lines[-1]


def test_a_resumed_sweep_counts_what_was_done_before(experiment: Experiment, screen: io.StringIO) -> None:
    sweep = Sweep(base=experiment, seeds=(0, 1, 2))
    result = sweep.run(quiet=True)
    next(run for run in result.run.children() if run.name == "001 seed=1").set_status("running")  # and was killed
    sweep.run(run=result.run)
    lines = last_frame(screen)
    assert [line.split()[0] for line in lines if "finished" in line] == ["1"]
    assert "3 of 3 done" in lines[-1]


def test_workers_runs_are_seen_while_they_go_on(experiment: Experiment, screen: io.StringIO) -> None:
    def interrupt_when_seen() -> None:
        for _ in range(1200):
            time.sleep(0.1)
            if re.search(r" [1-9][\d,]* of 1,000,000 .*loss [\d.]+", screen.getvalue()):
                break
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_when_seen)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        Sweep(base=experiment.but(steps=10**6), seeds=(3,), executor=ProcessPool(workers=1)).run()
    watcher.join()
    assert re.search(r"3 [━╸╺ ]+[1-9][\d,]* of 1,000,000 .*loss [\d.]+", screen.getvalue())
    assert "0 of 1 done, 1 running" in screen.getvalue()


def test_a_warning_stands_above_the_table(experiment: Experiment, screen: io.StringIO) -> None:
    def warn(context: Context) -> dict[str, float]:
        warnings.warn(f"mind seed {context.seed}", stacklevel=1)
        return {}

    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: said.append(str(message))
        Sweep(base=Pipeline(stages={"warn": warn}), seeds=(0, 1)).run()
    assert said == ["mind seed 0", "mind seed 1"]
    assert "2 of 2 done" in last_frame(screen)[-1]


def test_nothing_is_shown_where_there_is_no_terminal(
    experiment: Experiment, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Sweep(base=experiment, seeds=(0, 1)).run()
    monkeypatch.setattr(Console, "is_terminal", True)
    Sweep(base=experiment, seeds=(0, 1)).run(quiet=True)
    assert capfd.readouterr() == ("", "")


def test_on_a_real_terminal_the_table_goes_to_standard_error_only() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "metaloop", "run", "lab", "--seeds", "2", "--json"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side was closed
                data = b""
            if not data:
                break
            shown += data
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    os.close(ours)
    assert process.returncode == 0, shown
    assert document["status"] == "finished"
    assert b"2 of 2 done" in shown


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    run = Run.create({"component": "experiment", "steps": 50}, name="one", root=tmp_path)
    follower = Follower(run.path)
    run.log([{"step": 1, "loss": 3.0}, {"step": 1, "eval/loss": 4.0}, {"step": 2, "loss": float("nan")}])
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')
        file.flush()
        follower.look()
        assert (follower.step, follower.total, follower.losses) == (2, 50, {"loss": 3.0, "eval/loss": 4.0})
        file.write(b'ss": 1.5}\n')
    follower.look()
    assert (follower.step, follower.losses) == (3, {"loss": 1.5, "eval/loss": 4.0})
    run.cut(1)
    run.log([{"step": 2, "loss": 2.5}])
    follower.look()
    assert (follower.step, follower.losses["loss"]) == (2, 2.5)


def test_only_the_end_of_long_metrics_is_read(tmp_path: Path) -> None:
    run = Run.create({}, name="one", root=tmp_path)
    run.log([{"step": step, "loss": float(step), "padding": "x" * 300} for step in range(1000)])
    follower = Follower(run.path)
    follower.look()
    assert (follower.step, follower.losses) == (999, {"loss": 999.0})


def test_a_run_whose_process_was_killed_is_not_running_until_it_begins_again(tmp_path: Path) -> None:
    run = Run.create({"component": "pipeline"}, name="pipe", root=tmp_path)
    stage = run.child("train", {"component": "experiment", "steps": 9})
    follower = Follower.resting(run.path)
    follower.look()
    assert not follower.running
    run.set_status("running")
    follower.look()
    assert follower.working() == [follower]
    stage.set_status("running")
    later = run.child("later", {})
    later.set_status("finished")
    follower.look()
    assert [part.path for part in follower.working()] == [run.path, stage.path]
