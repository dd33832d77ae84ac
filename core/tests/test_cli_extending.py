"""What plugins add to the command line, and where runs are tracked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
from metaloop import load, tracking
from metaloop.store import list_runs

from .parts import same
from .test_cli import call

pytestmark = pytest.mark.usefixtures("lab")


def test_a_plugins_command_is_one_of_metaloops() -> None:
    assert call("wave").stdout == "wave \n"
    assert call("wave", "--hands", 2).stdout == "wave wave \n"
    shown = call("--help").stdout
    assert "wave a hand" in shown
    assert "never reached" not in shown
    assert "lab" in call("list").stdout  # the core's, whatever a plugin calls its own


def test_a_command_whose_code_is_broken_is_one_sentence() -> None:
    assert "'metaloop_lab.gone:vanish' can't be imported" in " ".join(call("vanish", code=2).stderr.split())
    assert "vanish" in call("--help").stdout


def test_a_command_of_a_package_that_is_not_here_says_which() -> None:
    assert call("ui", code=2).stderr == "error: metaloop ui comes with metaloop-mlflow: pip install metaloop-mlflow.\n"


def test_a_tracking_uri_needs_a_tracker(monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
    monkeypatch.setenv(tracking.VARIABLE, "")
    assert tracking.tracking_uri() is None
    result = call("run", "lab", "--tracking-uri", "http://127.0.0.1:1", code=2)
    assert "nothing that is installed tracks runs" in " ".join(result.stderr.split())
    call("run", "lab", "--tracking-uri", "off", "--quiet")
    assert os.environ[tracking.VARIABLE] == tracking.tracking_uri() == tracking.OFF


def test_the_final_theta_is_a_file_of_its_own(lab: Path) -> None:
    call("run", "lab", "--quiet")
    [run] = list_runs(lab)
    theta = load(run).theta
    stored = safetensors.torch.load_file(run.path / "theta.safetensors")
    same({name: stored[name] for name in theta}, theta)


def test_no_password_is_stored_with_a_run(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["metaloop", "run", "lab", "--tracking-uri", "http://me:secret@host:5000/x"])
    call("run", "lab", "--quiet")
    [run] = list_runs(lab)
    assert run.info["command"][-1] == "http://host:5000/x"
    assert "secret" not in (run.path / "run.json").read_text()
