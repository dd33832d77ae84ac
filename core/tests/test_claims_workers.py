"""Claims measured by workers: the same results, groups kept together, and nothing judged is lost to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from metaloop import plugins
from metaloop.claims import Claim, ClaimProgress, Less, Sample, VerifyReport, verify
from metaloop.cli import app
from metaloop.errors import UserError
from metaloop.executors import ProcessPool
from metaloop.store import list_runs
from typer.testing import CliRunner

CLAIMS = """
import os
from pathlib import Path
from metaloop.claims import Claim, Less, Sample

TRAININGS = Path(__file__).with_name("trainings")

def train(setting):
    with TRAININGS.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return [1.0 + seed % 7 / 10 for seed in setting.seeds]

def measured(shift):
    def measure(setting):
        ours = setting.share("trained", lambda: train(setting))
        return Sample([value + shift for value in ours], [2.0] * len(ours))
    return measure

def break_it(setting):
    raise RuntimeError("no data")

CLAIMS = (
    Claim("A1", "less", "Fig. 1", "-", measured(0.0), Less(0.1), group="A"),
    Claim("B", "less", "Fig. 1", "-", measured(9.0), Less(0.1)),
    Claim("A2", "less", "Fig. 1", "-", measured(0.1), Less(0.1), group="A"),
    Claim("C", "breaks", "Fig. 1", "-", break_it, Less(0.1)),
)
"""
TARGET = "claims_of_workers:CLAIMS"


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Claim, ...]:
    (tmp_path / "claims_of_workers.py").write_text(CLAIMS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "claims_of_workers", raising=False)
    return plugins.load(TARGET)  # type: ignore[return-value]


def found(report: VerifyReport) -> list[dict[str, object]]:
    return [result.model_dump(exclude={"seconds"}) for result in report.results]


# A pool lives as long as this process, and its workers import from where it did when it began: a size of its own each.


def test_a_group_is_measured_together_with_the_numbers_of_one_process(
    claims: tuple[Claim, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[ClaimProgress] = []
    spread = verify(claims, executor=ProcessPool(workers=4), target=TARGET, on_progress=told.append, command="verify")
    trainings = (tmp_path / "trainings").read_text().split()
    assert len(trainings) == 2  # one for the group A, one for B, which is on its own
    assert str(os.getpid()) not in trainings
    assert found(spread) == found(verify(claims, command="verify"))
    assert [result.verdict for result in spread.results] == ["holds", "fails", "holds", "broke"]
    assert 'raise RuntimeError("no data")' in caplog.text
    assert {(claims[progress.index].id, progress.fraction) for progress in told} == {(c.id, 1.0) for c in claims}
    order = [progress.claim.id for progress in told]
    assert order.index("A2") == order.index("A1") + 1


def test_only_the_claims_asked_for_travel(claims: tuple[Claim, ...]) -> None:
    pool = ProcessPool(workers=5)
    report = verify(claims, executor=pool, target=TARGET, only=["A2"], seeds=6, first_seed=3)
    assert [(result.id, result.seeds) for result in report.results] == [("A2", (3, 4, 5, 6, 7, 8))]


def test_workers_need_to_know_where_the_claims_are() -> None:
    claim = Claim("C1", "less", "Fig. 1", "-", lambda setting: Sample([1.0]), Less(0.1))
    with pytest.raises(UserError, match=r"target='package\.module:CLAIMS'"):
        verify([claim], executor=ProcessPool())


@pytest.mark.parametrize("executor", ["{component: process-pool, workers: 3}", "in-process"])
def test_the_command_line_keeps_each_result_as_it_is_judged(lab: Path, executor: str) -> None:
    result = CliRunner().invoke(app, ["verify", "lab", "--executor", executor], catch_exceptions=False)
    assert result.exit_code == 1, result.output
    [run] = list_runs(lab)
    kept = [json.loads(line) for line in (run.path / "judged.jsonl").read_text().splitlines()]
    assert sorted((line["id"], line["verdict"]) for line in kept) == [("C1", "holds"), ("C2", "fails"), ("C3", "broke")]
    assert "RuntimeError: no data" in (run.path / "log.txt").read_text()
    assert run.config["executor"]["component"].removeprefix("core/") in executor


def test_ctrl_c_says_where_the_judged_claims_are(lab: Path, lab_site: Path) -> None:
    slow = "import time, metaloop_lab.claims as lab; from metaloop.claims import Claim, Less"
    slow += "; lab.CLAIMS += (Claim('C4', 'slow', '-', '-', lambda setting: time.sleep(60), Less(0.1)),)"
    code = f"import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); {slow}"
    code += "; sys.argv = ['metaloop', 'verify', 'lab']; from metaloop.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (judged := list(lab.glob("*/judged.jsonl"))):
        time.sleep(0.05)
    while judged[0].read_text().count("\n") < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"the claims judged so far are in {judged[0]}" in said.replace("\n", "")
