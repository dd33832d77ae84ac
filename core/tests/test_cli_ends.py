"""How commands end: exit codes, one sentence, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from metaloop import checkpoint, disk, plugins
from metaloop.claims import load_record
from metaloop.cli import app
from metaloop.store import Run, list_runs
from typer.testing import CliRunner

pytestmark = pytest.mark.usefixtures("lab")


def call(*words: object, code: int = 0) -> Any:
    """Run a command in this process; fails where its exit code is another."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.output
    return result


def mistake(*words: object) -> str:
    """The one sentence that a user's mistake gets."""
    result = call(*words, code=2)
    assert not result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line)


def start(*words: str) -> subprocess.Popen[str]:
    """Run a command in a process of its own, where Ctrl-C is not ignored."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += f"; sys.argv = ['metaloop', *{words!r}]; from metaloop.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "lap"], "Did you mean 'lab'?"),
        (["run", "lab", "--set", "learner.lr=-0.1"], "learner.lr must be greater than 0, got -0.1."),
        (["run", "lab", "--set", "learner.stepz=1"], "There is no setting 'learner.stepz'. Did you mean 'steps'?"),
        (["run", "lab", "--set", "steps=many"], "steps must be a whole number, got 'many'."),
        (["run", "lab", "--set", "learner=lab/fit"], "Fit draws lines"),
        (["run", "lab", "--sweep", "learner.lr=0.1,-1"], "learner.lr must be greater than 0, got -1."),
        (["run", "lab", "--sweep", "learner.lr=0.1", "--sweep", "learner.lr=1"], "--sweep names learner.lr twice"),
        (["run", "lab", "--budget", "money=3"], "write evaluations=N or inner_steps=N"),
        (["run", "lab", "--max-time", "soon"], "--max-time 'soon' is not a time"),
        (["run", "lab", "--executor", "process-pol"], "Did you mean 'process-pool'?"),
        (["run", "lab", "--device", "abacus"], "device: 'abacus' can't be used here"),
        (["run", "lab", "--profile", "tpu"], "it has cpu, gpu"),
        (["run", "lab", "--name", "../x"], "name must be text like"),
        (["run", "no.yaml"], "no.yaml can't be read"),
        (["run", "lab/wrong"], "not an Experiment or a Pipeline"),
        (["run", "lab/reader"], "rows.csv: column 'age' has text in row 3"),
        (["run", "lab/pipeline", "--device", "abacus"], "device: 'abacus' can't be used here"),
        (["run", "lab", "--seeds", "2", "--device", "abacus"], "device: 'abacus' can't be used here"),
        (["resume", "last"], "there is no run 'last'"),
        (["compare", "nothing"], "there is no run 'nothing'"),
        (["verify", "lap"], "Did you mean 'lab'?"),
        (["verify", "core"], "Plugin 'core' has no claims; those that have: lab."),
        (["verify", "lab", "--claim", "C9"], "No claim is called 'C9'"),
        (["verify", "lab", "--record", "--claim", "C1"], "--record is for all claims"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(lab: Path, words: list[str], sentence: str) -> None:
    assert sentence in mistake(*words)
    assert not lab.exists() or not list(lab.iterdir())


def test_an_unknown_option_is_a_mistake_too() -> None:
    assert "--sed" in call("run", "lab", "--sed", "3", code=2).stderr


def test_a_run_that_diverges_keeps_its_checkpoint(lab: Path) -> None:
    result = call("run", "lab", "--set", "learner.lr=1e12", "--set", "steps=9", "--set", "checkpoint_every=1", code=1)
    [line] = result.stderr.splitlines()
    [run] = list_runs(lab)
    assert "the loss is not finite at step" in line
    assert str(run.path) in line
    assert run.status == "failed"
    assert checkpoint.newest(run.path / "checkpoints") is not None


def test_a_fault_in_a_plugin_is_a_sentence_and_a_traceback_in_the_run(lab: Path) -> None:
    result = call("run", "lab/faulty", code=1)
    [line] = result.stderr.splitlines()
    [run] = list_runs(lab)
    assert "ZeroDivisionError: no luck" in line
    assert str(run.path / "error.txt") in line
    assert 'raise ZeroDivisionError("no\\nluck")' in (run.path / "error.txt").read_text()
    assert [child.status for child in run.children()] == ["finished", "failed"]
    result = call("run", "lab/faulty", "--traceback", code=1)
    assert 'raise ZeroDivisionError("no\\nluck")' in result.stderr


def test_a_sweep_with_a_broken_run_prints_its_table_and_fails(lab: Path) -> None:
    result = call("run", "lab", "--sweep", "learner.lr=0.1,1e30", code=1)
    assert "0.1" in result.stdout
    [line] = result.stderr.splitlines()
    assert "1 of 2 runs broke; the first: the loss is not finite" in line


def test_a_full_disk_is_a_mistake_that_names_the_way_on(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = disk.call

    def full(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is os.write and list(lab.glob("*/checkpoints/0*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return calls(operation, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "call", full)
        sentence = mistake("run", "lab", "--set", "checkpoint_every=1")
    [run] = list_runs(lab)
    assert "The disk is full" in sentence
    assert f"metaloop resume {run.id}" in sentence
    call("resume", run.id)
    assert run.status == "finished"


def test_a_disk_that_is_full_from_the_start_leaves_nothing(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write", full)
    assert "No space left" in mistake("run", "lab")
    assert not lab.exists() or not list(lab.iterdir())


def test_a_runs_folder_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert "can't write runs to" in mistake("run", "lab", "--runs", tmp_path / "file")


def test_a_run_in_use_is_not_resumed(lab: Path) -> None:
    call("run", "lab/slow", "--max-time", "0.01s")
    run = Run.open("last")
    with run.lock():
        assert "is in use by process" in mistake("resume", "last")


def test_a_run_whose_plugin_is_gone_is_not_resumed(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("run", "lab/slow", "--max-time", "0.01s")
    monkeypatch.setenv("METALOOP_PLUGINS", "core")
    plugins.refresh()
    sentence = mistake("resume", "last")
    assert "can't be resumed here" in sentence
    assert "'lab/quadratics'" in sentence


def test_what_is_no_run_by_itself_is_not_resumed(lab: Path) -> None:
    call("run", "lab/faulty", code=1)
    [run] = list_runs(lab)
    assert f"resume {run.id}" in mistake("resume", f"{run.id}/faulty")


def test_ctrl_c_keeps_a_checkpoint_and_ends_with_130(lab: Path) -> None:
    def press() -> None:  # once steps are logged, which is when the run minds signals itself
        while not list(lab.glob("*/metrics.jsonl")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    result = call("run", "lab/slow", code=130)
    [run] = list_runs(lab)
    assert not result.stdout
    warning, message = result.stderr.splitlines()
    assert "stopping after this step and a checkpoint" in warning
    assert message == f"Interrupted. Go on with: metaloop resume {run.id}"
    assert run.status == "interrupted"
    step = checkpoint.newest(run.path / "checkpoints")
    assert step
    call("resume", run.id, "--max-time", "0.01s")
    assert (checkpoint.newest(run.path / "checkpoints") or 0) > step


def test_ctrl_c_reaches_the_workers_of_a_sweep(lab: Path) -> None:
    process = start("run", "lab/slow", "--seeds", "2", "--executor", "{component: core/process-pool, workers: 1}")
    while not list(lab.glob("*/children/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    [run] = list_runs(lab)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    [child] = run.children()
    assert (run.status, child.status) == ("interrupted", "interrupted")
    assert checkpoint.newest(child.path / "checkpoints")


def test_verify_prints_and_stores_the_table(lab: Path) -> None:
    result = call("verify", "lab", code=1)
    assert all(word in result.stdout for word in ("C1", "C2", "C3", "holds", "broke"))
    assert "Traceback" not in result.output
    [run] = list_runs(lab)
    assert run.info["kind"] == "verify"
    assert [path.name for path in run.artifacts()] == ["claims.json", "claims.md"]
    assert "RuntimeError: no data" in (run.path / "log.txt").read_text()
    assert (run.result() or {})["C1"]["verdict"] == "holds"


def test_verify_of_some_claims_as_json(lab: Path) -> None:
    found = json.loads(call("verify", "lab", "--claim", "C1", "--seeds", 6, "--device", "cpu", "--json").stdout)
    assert [(result["id"], result["verdict"], result["n"]) for result in found["results"]] == [("C1", "holds", 6)]
    assert found["device"] == "cpu"
    assert call("verify", "lab", "--claim", "C1", "--claim", "C2", "--broken", "--quiet", code=1).stdout.strip() == str(
        list_runs(lab)[0].path
    )


def test_verify_records_where_it_is_asked_to(tmp_path: Path) -> None:
    call("verify", "lab", "--record", code=1)
    assert len(load_record(tmp_path / "claims-lab").results) == 3
    call("verify", "lab", "--into", tmp_path / "docs", code=1)
    assert (tmp_path / "docs" / "claims.md").is_file()


def test_verify_records_beside_the_source_of_an_editable_plugin(tmp_path: Path, lab_site: Path) -> None:
    source = tmp_path / "the source"
    source.mkdir()
    url = lab_site / "metaloop_lab-1.0.dist-info" / "direct_url.json"
    url.write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    try:
        plugins.refresh()
        result = call("verify", "lab", "--record", "--quiet", code=1)
    finally:
        url.unlink()
    assert f"recorded in {source / 'claims.md'}" in result.stderr
    assert len(load_record(source).results) == 3
