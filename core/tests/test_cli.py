"""The command line as a user meets it: what is printed, what is stored, and what is imported for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from metaloop import Experiment, compose, plugins
from metaloop.cli import app
from metaloop.store import Run, list_runs
from typer.testing import CliRunner

pytestmark = pytest.mark.usefixtures("lab")


def call(*words: object, code: int = 0) -> Any:
    """Run a command in this process; fails where its exit code is another."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.output
    assert "Traceback" not in result.output
    return result


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words", [["list"], ["list", "--json"], ["info", "lab"], ["info", "core"], ["runs", "list"], ["run", "-h"]]
)
def test_looking_around_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from metaloop.cli import app
try:
    app({words!r})
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "numpy", "scipy", "matplotlib", "metaloop.component", "metaloop_lab.heavy"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = fresh(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_broken_plugins_are_rows_and_cost_others_one_line(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {
        "bad": "raise RuntimeError('no licence')",
        "old": "from metaloop.manifest import Plugin\nSPEC = Plugin('old', '', api=0)",
    }
    for name, text in faults.items():
        package, info = tmp_path / "site" / f"metaloop_{name}", tmp_path / "site" / f"metaloop_{name}-2.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "plugin.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: metaloop-{name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[metaloop.plugins]\n{name} = metaloop_{name}.plugin:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("METALOOP_PLUGINS", "core,lab,bad,old")
    monkeypatch.setenv("COLUMNS", "200")
    plugins.refresh()
    result = call("list")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert re.search(r"lab +1.0 +ok +small things to try", lines["lab"])
    assert re.search(r"bad +2.0 +broken .*RuntimeError: no licence", lines["bad"])
    assert re.search(r"old +2.0 +incompatible +it is made for plugin API 0", lines["old"])
    assert not result.stderr
    assert call("run", "lab").stderr == "warning: not loaded: bad, old ('metaloop doctor' says why)\n"
    assert "RuntimeError: no licence" in call("doctor").stdout
    assert "plugin 'bad' (metaloop-bad 2.0) is broken: importing" in call("run", "bad", code=2).stderr


def test_list_as_json() -> None:
    records = {record["plugin"]: record for record in json.loads(call("list", "--json").stdout)}
    assert records["lab"]["version"] == "1.0"
    assert {"id": "lab/pipeline", "profiles": ["cpu"], "summary": "descent and a table"} in records["lab"]["jobs"]


def test_info_of_a_plugin_a_component_and_a_job() -> None:
    text = call("info", "lab").stdout
    assert "toy papers" in text
    assert all(
        word in text for word in ("A Paper", "arXiv:2000.00000", "lab/descent", "lab/pipeline", "metaloop run lab")
    )
    text = call("info", "lab/descent").stdout
    assert re.search(r"lr +float > 0 +0.05 +first learning rate", text)
    assert re.search(r"steps +int >= 0 +3 +inner steps of one adaptation", text)
    fields = {field["name"]: field for field in json.loads(call("info", "lab/revisits", "--json").stdout)["fields"]}
    assert fields["inner"]["type"] == "TaskFamily"
    assert fields["inner"]["default"]["component"] == "lab/quadratics"
    assert "descent and a table" in call("info", "lab/pipeline").stdout
    assert "Did you mean 'lab/descent'?" in call("info", "lab/descend", code=2).stderr


def test_run_closes_with_a_table_a_picture_and_where_it_is(lab: Path) -> None:
    result = call("run", "lab")
    [run] = list_runs(lab)
    assert re.search(r"loss +[\d.]+", result.stdout)
    assert str(run.path) in result.stdout
    [picture] = run.artifacts()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in result.stdout
    assert not result.stderr
    assert run.status == "finished"


def test_a_picture_is_told_to_hooks_before_the_end(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metaloop import hooks

    heard: list[str] = []

    class Listener:
        @hooks.hookimpl
        def artifact_saved(self, path: Path) -> None:
            heard.append(path.name)

        @hooks.hookimpl
        def run_ended(self, status: str) -> None:
            heard.append(status)

    monkeypatch.setattr("metaloop.cli.executing.load_hooks", lambda extra: hooks.Hooks([*extra, Listener()]))
    call("run", "lab")
    assert heard == ["curves.png", "finished"]


def test_settings_seed_budget_and_name_reach_the_run(lab: Path) -> None:
    call(
        "run", "lab", "--set", "learner.lr=0.2", "--seed", 5, "--device", "cpu", "--budget", "inner_steps=9",
        "--name", "mine", "--executor", "process-pool", "--profile", "gpu",
    )  # fmt: skip
    [run] = list_runs(lab)
    thing = compose.from_document(run.config)
    assert isinstance(thing, Experiment)
    assert (thing.learner.lr, thing.seed, thing.device, thing.max_inner_steps, thing.name, thing.steps) == (  # type: ignore[attr-defined]
        0.2, 5, "cpu", 9, "mine", 60,
    )  # fmt: skip
    assert thing.executor.component_id() == "core/process-pool"
    result = run.result()
    assert result is not None
    assert result["steps"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["lab", "--set", "learner.lr=1e-7"],
        ["lab/pipeline", "--seed", "3", "--set", "digits=7"],
        ["lab", "--seeds", "3", "--sweep", "learner.lr=0.1,0.2", "--executor", "process-pool"],
    ],
)
def test_dry_prints_what_run_takes_back(tmp_path: Path, lab: Path, words: list[str]) -> None:
    text = call("run", *words, "--dry").stdout
    assert not lab.exists()
    path = tmp_path / "again.yaml"
    path.write_text(text)
    assert call("run", path, "--dry").stdout == text
    assert compose.to_yaml(compose.from_file(path)) == text
    assert json.loads(call("run", path, "--dry", "--json").stdout) == compose.to_document(compose.from_file(path))


def test_a_run_file_gives_the_same_numbers(tmp_path: Path, lab: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(call("run", "lab", "--dry").stdout)
    first, second = (json.loads(call("run", what, "--json").stdout)["summary"] for what in ("lab", path))
    assert first["loss"] == second["loss"]


def test_a_pipeline_prints_what_its_stages_show(lab: Path) -> None:
    result = call("run", "lab/pipeline")
    [run] = list_runs(lab)
    assert "the closing table" in result.stdout
    assert str(run.path / "artifacts" / "loss.txt") in result.stdout


def test_json_is_one_document(lab: Path) -> None:
    found = json.loads(call("run", "lab/pipeline", "--json").stdout)
    [run] = list_runs(lab)
    assert found["run"] == run.id
    assert found["status"] == "finished"
    assert found["summary"] == run.result()
    assert found["artifacts"] == [str(run.path / "artifacts" / "loss.txt")]


def test_quiet_prints_the_folder_only(lab: Path) -> None:
    result = call("run", "lab", "--quiet")
    [run] = list_runs(lab)
    assert result.stdout == f"{run.path}\n"
    assert not result.stderr


def test_seeds_and_sweep_make_one_run_with_children(lab: Path) -> None:
    result = call(
        "run", "lab", "--seed", 10, "--seeds", 2, "--sweep", "learner.lr=0.01,0.1", "--sweep", "tasks.dimension=1,2"
    )
    [run] = list_runs(lab)
    assert run.info["kind"] == "sweep"
    children = run.children()
    assert {(c.config["learner"]["lr"], c.config["tasks"]["dimension"], c.config["seed"]) for c in children} == {
        (lr, d, seed) for lr in (0.01, 0.1) for d in (1, 2) for seed in (10, 11)
    }
    assert re.search(r"learner.lr +tasks.dimension +mean +95% interval +n", result.stdout)
    assert re.search(r"loss +0.01 +1 +[\d.]+ +-?[\d.]+ to [\d.]+ +2", result.stdout)


def test_a_stopped_run_goes_on_with_resume(lab: Path) -> None:
    result = call("run", "lab/slow", "--set", "steps=400", "--set", "checkpoint_every=100", "--max-time", "0.01s")
    [run] = list_runs(lab)
    assert run.status == "stopped"
    assert f"metaloop resume {run.id}" in result.stderr
    call("resume", run.id)
    assert run.status == "finished"
    uninterrupted = json.loads(call("run", "lab/slow", "--set", "steps=400", "--json").stdout)["summary"]
    resumed = run.result()
    assert resumed is not None
    assert resumed["loss"] == uninterrupted["loss"]
    result = call("resume", run.id)
    assert "finished already" in result.stderr


def test_a_stopped_pipeline_and_a_sweep_go_on_too(lab: Path) -> None:
    for words in (["lab/pipeline", "--set", "train.steps=300"], ["lab", "--set", "steps=300", "--seeds", "2"]):
        call("run", *words, "--max-time", "0.01s")
        run = Run.open("last")
        assert run.status == "stopped"
        call("resume", "last")
        assert run.status == "finished"
        assert all(child.status == "finished" for child in run.children())


def test_resume_under_other_versions_says_which(lab: Path) -> None:
    call("run", "lab/slow", "--max-time", "0.01s")
    run = Run.open("last")
    info = run.info
    info["config"]["steps"] = 20
    info["versions"] |= {"metaloop-lab": "0.9", "unrelated": "7"}
    (run.path / "run.json").write_text(json.dumps(info))
    (run.path / "checkpoints").rename(run.path / "gone")
    assert "metaloop-lab 0.9 is now 1.0" in call("resume", "last").stderr


def test_compare_shows_numbers_and_what_differs(lab: Path, tmp_path: Path) -> None:
    call("run", "lab")
    call("run", "lab", "--set", "learner.lr=0.2")
    names = [run.id for run in list_runs(lab)]
    text = call("compare", *names, "--plot", tmp_path / "curves.png").stdout
    assert re.search(r"learner.lr +0.2 +0.05", text)
    assert "learner.steps" not in text
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(call("compare", *names, "--json").stdout)
    assert found["settings"] == {"learner.lr": [0.2, 0.05]}
    assert [group["runs"][0]["run"] for group in found["groups"]] == names
    assert [run["run"] for run in json.loads(call("compare", *names, "--each", "--json").stdout)["runs"]] == names
    assert (
        "no metric 'los'"
        in call("compare", *names, "--metric", "loss", "--plot", "x.png", "--metric", "los", code=2).stderr
    )


def test_a_sweep_is_compared_by_its_points_or_its_runs(lab: Path) -> None:
    call("run", "lab", "--sweep", "learner.lr=0.01,0.1", "--seeds", "2")
    found = json.loads(call("compare", "last", "--json").stdout)
    assert found["settings"] == {"learner.lr": [0.01, 0.1]}
    found = json.loads(call("compare", "last", "--each", "--json").stdout)
    assert found["settings"] == {"seed": [0, 1, 0, 1], "learner.lr": [0.01, 0.01, 0.1, 0.1]}


def test_runs_are_listed_removed_and_pruned(lab: Path) -> None:
    for _ in range(2):
        call("run", "lab")
    newest, oldest = list_runs(lab)
    listed = json.loads(call("runs", "list", "--json").stdout)["runs"]
    assert [run["run"] for run in listed] == [newest.id, oldest.id]
    assert all(run["bytes"] > 1000 for run in listed)
    assert newest.id in call("runs", "list").stdout
    assert "say --yes" in call("runs", "rm", newest.id, code=2).stderr
    call("runs", "rm", newest.id, newest.id, "--yes")
    assert [run.id for run in list_runs(lab)] == [oldest.id]
    before = sorted(path.name for path in (oldest.path / "checkpoints").iterdir())
    assert "would remove 0 runs, 1 checkpoint" in call("runs", "prune", "--dry").stderr
    assert sorted(path.name for path in (oldest.path / "checkpoints").iterdir()) == before
    call("runs", "prune")
    assert len(list((oldest.path / "checkpoints").iterdir())) == 1
    assert "there is no run" in call("runs", "rm", "nothing", "--yes", code=2).stderr


def test_runs_can_be_kept_elsewhere(tmp_path: Path, lab: Path) -> None:
    elsewhere = tmp_path / "else where"
    call("run", "lab", "--runs", elsewhere)
    assert not lab.exists()
    assert len(list_runs(elsewhere)) == 1
    assert "finished already" in call("resume", "last", "--runs", elsewhere).stderr


def test_doctor_says_what_is_there(lab: Path, lab_site: Path) -> None:
    text = call("doctor").stdout
    assert re.search(r"lab +ok", text)
    assert re.search(r"writable +yes", text)
    found = json.loads(call("doctor", "--json").stdout)
    assert found["versions"]["metaloop-lab"] == "1.0"
    assert found["plugins"]["lab"] == {"status": "ok", "error": None, "hooks": None}
    assert not lab.exists()


def test_version() -> None:
    assert re.fullmatch(r"metaloop \d+\.\d+.*\n", call("--version").stdout)
