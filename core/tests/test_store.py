import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metaloop import checkpoint, disk, housekeeping, store
from metaloop.errors import UnknownName, UserError
from metaloop.store import Run, list_runs


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def make(name: str = "maml", **options: Any) -> Run:
    return Run.create({"lr": 0.1}, name=name, **options)


def test_the_folder_of_runs_comes_from_the_variable_or_is_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert store.runs_root() == root
    monkeypatch.delenv("METALOOP_RUNS")
    monkeypatch.chdir(tmp_path)
    assert store.runs_root() == tmp_path / "runs"


def test_a_run_notes_what_ran_and_where(root: Path) -> None:
    run = Run.create({"steps": 3, "of": Path("a.csv")}, name="gpicl/transition", seed=7)
    assert run.path.parent == root
    assert run.id == run.path.name
    assert run.id.startswith("gpicl-transition-")
    info = run.info
    assert info["id"] == run.id
    assert (run.name, run.config, info["seed"], info["kind"]) == (
        "gpicl/transition",
        {"steps": 3, "of": "a.csv"},
        7,
        "experiment",
    )
    assert info["versions"]["torch"]
    assert info["hardware"]["torch"] == torch.__version__
    assert info["hardware"]["cores"] >= 1
    assert info["hardware"]["cpu"]
    assert info["command"] == sys.argv


def test_the_git_commit_is_noted_with_local_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert make().info["git"] is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    (tmp_path / "code.py").write_text("x = 1")
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert make().info["git"] == head
    (tmp_path / "code.py").write_text("x = 2")
    assert make().info["git"] == f"{head}-dirty"


def test_runs_are_found_by_path_id_beginning_and_last(root: Path) -> None:
    first, second = make("alpha"), make("beta")
    for word in (first.path, str(first.path), first.id, "alpha"):
        assert Run.open(word) == first
    assert Run.open("last") == second
    assert Run.open("last", root=root) == second
    with pytest.raises(UnknownName, match=f"Did you mean '{first.id}'"):
        Run.open(first.id.replace("alpha", "alpah"))
    with pytest.raises(UnknownName, match="there is no run '/nowhere/at/all'"):
        Run.open("/nowhere/at/all")
    make("alpha")
    with pytest.raises(UnknownName, match="'alpha' begins 2 run ids: alpha-"):
        Run.open("alpha")


def test_last_of_no_runs_is_unknown() -> None:
    with pytest.raises(UnknownName, match="there is no run 'last'"):
        Run.open("last")


def test_a_runs_folder_that_cannot_be_written_is_the_users_mistake(root: Path) -> None:
    root.write_text("a file in the way")
    with pytest.raises(UserError, match=r"can't write runs to .*runs \(.*\): set METALOOP_RUNS"):
        make()
    assert root.read_text() == "a file in the way"


def test_a_config_that_is_not_json_leaves_nothing(root: Path) -> None:
    with pytest.raises(TypeError, match="a run stores JSON values"):
        Run.create({"fn": print}, name="x")
    assert not root.exists()


def test_metrics_keep_every_digit(root: Path) -> None:
    run = make()
    assert run.history() == []
    run.sync()
    run.log([])
    rows: list[dict[str, Any]] = [
        {"step": 1, "loss": 0.1 + 0.2, "big": 1e300},
        {"step": 2, "loss": math.inf, "np": np.float32(0.5), "t": torch.ones(2)},
    ]
    run.log(rows[:1])
    run.log([*rows[1:], {"step": 3, "loss": math.nan}])
    run.sync()
    back = run.history()
    assert back[0] == rows[0]
    assert back[1] == {"step": 2, "loss": math.inf, "np": 0.5, "t": [1.0, 1.0]}
    assert math.isnan(back[2]["loss"])


def test_cut_takes_metrics_back_to_a_step() -> None:
    run = make()
    run.cut(3)
    run.log([{"step": step, "loss": 1 / (step + 1)} for step in range(6)])
    whole = (run.path / "metrics.jsonl").read_bytes()
    run.cut(5)
    assert (run.path / "metrics.jsonl").read_bytes() == whole
    run.cut(2)
    assert [row["step"] for row in run.history()] == [0, 1, 2]
    run.log([{"step": step, "loss": 1 / (step + 1)} for step in range(3, 6)])
    assert (run.path / "metrics.jsonl").read_bytes() == whole


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b'{"step": 2}', b"\0\0\0", b"\xff\n", b"2\n"])
def test_a_torn_last_line_is_left_out_and_cut_away(torn: bytes) -> None:
    run = make()
    run.log([{"step": 1}])
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    assert run.history() == [{"step": 1}]
    run.cut(5)
    assert (run.path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'


def test_a_bad_line_in_the_middle_is_not_passed_over() -> None:
    run = make()
    run.log([{"step": 1}])
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\noops\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"line 2 of .*metrics.jsonl is not a row"):
        run.history()


def test_status_and_result(root: Path) -> None:
    run = make()
    assert run.result() is None
    with run.lock():
        assert run.status == "running"
        assert Run.open("last").status == "running"
    assert run.status == "interrupted", "nobody works on it"
    run.set_status("failed", error="loss is NaN at step 3")
    assert Run.open(run.id).status == "failed"
    assert run.info["summary"] == {"error": "loss is NaN at step 3"}
    run.write_result({"loss": np.float64(0.25), "curve": torch.arange(2)})
    assert run.result() == {"loss": 0.25, "curve": [0, 1]}
    with pytest.raises(ValueError, match="a run's status is one of"):
        run.set_status("done")  # type: ignore[arg-type]
    assert run.status == "failed"


def test_artifacts_stay_inside_the_run(tmp_path: Path) -> None:
    run = make()
    assert run.artifacts() == []
    run.artifact("curves/loss.png").write_bytes(b"png")
    run.artifact("table.csv").write_text("a,b")
    assert [path.relative_to(run.path / "artifacts").as_posix() for path in run.artifacts()] == [
        "curves/loss.png",
        "table.csv",
    ]
    (run.path / "artifacts/link").symlink_to(tmp_path)
    for name in ("../run.json", "/etc/passwd", "a/../../x", "", ".", "link/x"):
        with pytest.raises(UserError, match="must stay inside"):
            run.artifact(name)


def test_children_live_in_their_parent(root: Path) -> None:
    parent = make("pipeline", kind="pipeline")
    child = parent.child("train/it", {"a": 1}, seed=3)
    assert child.path == parent.path / "children/train-it"
    assert child.id == f"{parent.id}/train-it"
    assert (child.info["parent"], child.info["seed"], child.name) == (parent.id, 3, "train/it")
    assert parent.child("train/it", {"a": 2}).config == {"a": 1}, "opened, not made again"
    grandchild = child.child("seed-3", {})
    assert parent.children() == [child]
    assert Run.open(grandchild.id) == grandchild
    assert Run.open("pipeline/train-it/seed-3") == grandchild
    with pytest.raises(UnknownName):
        Run.open("pipeline/test")
    assert list_runs() == [parent]
    with pytest.raises(UserError, match="exists already"):
        Run.create({}, name="x", folder=child.path)
    housekeeping.remove(parent)
    assert list(root.iterdir()) == []


HOLD = """
import sys, time
from metaloop.store import Run
with Run.open("last").lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_use_one_run() -> None:
    run = make()
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    try:
        assert holder.stdout.readline() == "held\n"
        assert run.status == "running"
        with pytest.raises(UserError, match=rf"run {run.id} is in use by process {holder.pid} on "), run.lock():
            pass
        with pytest.raises(UserError, match="is in use"):
            housekeeping.remove(run)
        assert housekeeping.prune(keep_last=0).runs == []
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert run.status == "interrupted"
    with run.lock() as held:
        assert held is run
        with pytest.raises(UserError, match=f"process {os.getpid()}"), Run.open(run.id).lock():
            pass
    with run.lock():
        pass


def test_a_run_that_is_gone_cannot_be_locked() -> None:
    run = make()
    housekeeping.remove(run)
    with pytest.raises(UserError, match="can't be locked"), run.lock():
        pass


def test_a_file_system_without_locks_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(disk, "_lock_now", no_locks)
    run = make()
    with pytest.warns(UserWarning, match="has no locks"), run.lock():
        assert not run.in_use


def test_runs_are_listed_newest_first_and_broken_ones_told_apart(root: Path) -> None:
    assert list_runs() == []
    runs = [make(name) for name in ("c", "a", "b")]
    (root / "notes").mkdir()
    for name, text in (("broken", "{"), ("empty", "{}")):
        (root / name).mkdir()
        (root / name / "run.json").write_text(text)
    (root / "dateless").mkdir()
    (root / "dateless/run.json").write_text(json.dumps(runs[0].info | {"created": "yesterday"}))
    found = list_runs()
    assert found == runs[::-1]
    assert {path.name for path in found.broken} == {"broken", "empty", "dateless"}
    assert "run.json" in found.broken[root / "broken"]


def test_disk_use_counts_files_of_children_too() -> None:
    run = make()
    before = housekeeping.disk_use(run)
    run.artifact("x").write_bytes(b"x" * 1000)
    assert housekeeping.disk_use(run) == before + 1000
    child = run.child("stage", {})
    assert housekeeping.disk_use(run) == before + 1000 + housekeeping.disk_use(child)


def test_prune_frees_disk_and_loses_no_result(root: Path) -> None:
    def ended(name: str, status: Any, steps: tuple[int, ...] = ()) -> Run:
        run = make(name)
        for step in steps:
            checkpoint.save(run.folder("checkpoints"), step, {"x": torch.ones(100)})
        run.set_status(status)
        return run

    kept = [
        ended("finished", "finished", (1, 2)),
        ended("resumable", "interrupted", (1, 2)),
        ended("quick", "finished"),
    ]
    parent = ended("parent", "failed")
    checkpoint.save(parent.child("stage", {}).folder("checkpoints"), 1, 0)
    useless = [ended("crashed", "failed"), ended("stopped", "running")]
    newest = ended("newest", "failed")
    for name in (".making-x", ".removing-y"):
        (root / name).mkdir()
        os.utime(root / name, (0, 0))
    (root / ".making-now").mkdir()

    plan = housekeeping.prune(keep_last=1, dry=True)
    assert {run.name for run in plan.runs} == {"crashed", "stopped"}
    assert plan.checkpoints == [kept[0].path / "checkpoints/000001"]
    assert {path.name for path in plan.leftovers} == {".making-x", ".removing-y"}
    assert plan.freed > 400
    assert len(list_runs()) == 7

    assert housekeeping.prune(keep_last=1) == plan
    assert set(list_runs()) == {*kept, parent, newest}
    assert checkpoint.load(kept[0].path / "checkpoints") is not None
    assert len(checkpoint.stored(kept[1].path / "checkpoints")) == 2
    assert not any(run.path.exists() for run in useless)
    assert (root / ".making-now").exists()
    again = housekeeping.prune(keep_last=1)
    assert (again.runs, again.checkpoints, again.leftovers, again.freed) == ([], [], [], 0)


def test_listing_runs_needs_no_torch(root: Path) -> None:
    make()
    code = (
        "import sys, metaloop.housekeeping as h; run, = h.list_runs(); run.status; h.disk_use(run); h.prune(); "
        "sys.exit(', '.join({'torch', 'numpy', 'pydantic', 'safetensors'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
