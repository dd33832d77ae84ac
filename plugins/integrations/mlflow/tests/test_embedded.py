"""Without any setting: an SQLite file and an artifact folder beside the runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from metaloop import Pipeline, loop
from metaloop.cli.executing import execute
from metaloop.errors import UserError
from metaloop.executors import ProcessPool
from metaloop.store import Run
from metaloop.sweep import Sweep
from metaloop_mlflow.hooks import WAIT

from .tools import (
    PATIENCE,
    TINY,
    AtStep,
    Gated,
    assert_all_rows_once,
    embedded,
    environment,
    last_step,
    metaloop,
    mirrors,
    only_run,
    tiny,
    tracked,
    until,
    warnings_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run was made with nothing set."""
    folder = tmp_path_factory.mktemp("embedded")
    done = metaloop(folder, "run", "basics/maml", "--set", "steps=60", *TINY)
    assert done.returncode == 0, done.stderr
    assert not warnings_in(done.stderr)
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run experiments of this process in, tracked; its store is there already, as making one takes long."""
    monkeypatch.delenv("METALOOP_TRACKING_URI", raising=False)
    monkeypatch.setattr(loop, "_FLUSH_ROWS", 1)
    monkeypatch.setenv(WAIT, str(PATIENCE))
    shutil.copy(folder / "mlflow.db", tmp_path)
    return tmp_path


def test_the_hooks_import_neither_mlflow_nor_torch() -> None:
    code = "import sys, metaloop_mlflow.hooks as h; h.Tracker(); print({'mlflow', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_plain_run_is_tracked_beside_its_folder_and_nowhere_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"runs", "mlflow.db", "mlartifacts"}
    found = assert_all_rows_once(embedded(folder), only_run(folder))
    assert found.info.status == "FINISHED"
    assert found.info.run_name == only_run(folder).id
    assert embedded(folder).get_experiment(found.info.experiment_id).name == "basics/maml"
    assert not mirrors(folder)


def test_every_setting_is_a_param_and_the_origin_is_in_tags(folder: Path) -> None:
    run = only_run(folder)
    (found,) = tracked(embedded(folder), run)
    params, tags, about = found.data.params, found.data.tags, run.info
    assert params["learner.inner_lr"] == "0.01"
    assert params["learner.model.widths"] == "[40, 40]"
    assert params["meta_optimizer.optimizer"] == "Adam"
    assert params["steps"] == "60"

    def leaves(value: object, path: str = "") -> set[str]:
        if not isinstance(value, dict) or not value:
            return {path}
        return set().union(*(leaves(item, f"{path}.{key}" if path else key) for key, item in value.items()))

    assert params.keys() == leaves(run.config)
    assert tags["metaloop.run"] == run.id
    assert tags["metaloop.status"] == "finished"
    assert tags["seed"] == "0"
    assert tags["torch"] == about["hardware"]["torch"]
    assert tags["device"] == about["hardware"]["device"]
    for package, version in about["versions"].items():
        assert tags[f"version.{package}"] == version


def test_times_are_the_runs_own_and_closing_numbers_are_metrics(folder: Path) -> None:
    run = only_run(folder)
    (found,) = tracked(embedded(folder), run)
    rows, result = run.history(), run.result()
    assert result is not None
    assert found.info.start_time <= 1000 * rows[0]["time"] + 1
    assert found.info.end_time >= 1000 * rows[-1]["time"] - 1
    for key in ("seconds", "first_step_seconds", "steps"):
        assert found.data.metrics[key] == result[key]


def test_theta_pictures_result_and_the_run_file_are_artifacts(folder: Path, tmp_path: Path) -> None:
    run, client = only_run(folder), embedded(folder)
    (found,) = tracked(client, run)
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert names == {"curves.png", "experiment.yaml", "result.json", "theta.safetensors"}
    for name, path in (("theta.safetensors", run.path), ("curves.png", run.path / "artifacts")):
        copy = Path(client.download_artifacts(found.info.run_id, name, str(tmp_path)))
        assert copy.read_bytes() == (path / name).read_bytes()
    document = yaml.safe_load(Path(client.download_artifacts(found.info.run_id, "experiment.yaml")).read_text())
    assert document == run.config


def test_sync_of_a_complete_run_sends_nothing_until_a_file_changes(folder: Path) -> None:
    def sync() -> tuple[int, int, str]:
        done = metaloop(folder, "sync", "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["runs"]
        return row["rows"], row["files"], row["state"]

    assert sync() == (0, 0, "was complete")
    only_run(folder).artifact("notes/later.txt").write_text("afterwards")
    assert sync() == (0, 1, "sent")
    (found,) = tracked(embedded(folder), only_run(folder))
    assert [item.path for item in embedded(folder).list_artifacts(found.info.run_id, "notes")] == ["notes/later.txt"]


def test_off_tracks_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METALOOP_TRACKING_URI", "off")
    result = tiny(2).run(root=here / "runs", quiet=True, hooks=[AtStep(1, lambda _: no_mirror(here))])
    assert not (result.run.path / "mlflow.json").exists()


def no_mirror(folder: Path) -> None:
    assert not mirrors(folder)


def test_a_sweep_over_workers_is_a_parent_with_its_runs_as_children(here: Path) -> None:
    Sweep(base=tiny(5), seeds=(0, 1), executor=ProcessPool(workers=1)).run(root=here / "runs", quiet=True)
    run, client = only_run(here), embedded(here)
    (parent,) = tracked(client, run)
    assert parent.data.tags["metaloop.kind"] == "sweep"
    assert len(run.children()) == 2
    for child in run.children():
        found = assert_all_rows_once(client, child)
        assert found.info.status == "FINISHED"
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert found.info.experiment_id == parent.info.experiment_id
    assert {path.name for path in here.iterdir()} == {"runs", "mlflow.db", "mlartifacts"}


def test_a_pipeline_is_a_parent_with_its_stages_as_children(here: Path) -> None:
    def closing(context: Any) -> dict[str, float]:
        context.run.artifact("table.txt").write_text("a table")
        return {"ratio": 0.5}

    Pipeline(name="two", stages={"train": tiny(5), "closing": closing}).run(root=here / "runs", quiet=True)
    run, client = only_run(here), embedded(here)
    (parent,) = tracked(client, run)
    assert parent.data.metrics["closing.ratio"] == 0.5
    (stage,) = tracked(client, Run(run.path / "children" / "closing"))
    assert stage.info.status == "FINISHED"
    assert stage.data.metrics["ratio"] == 0.5
    assert "table.txt" in {item.path for item in client.list_artifacts(stage.info.run_id)}
    train = assert_all_rows_once(client, Run(run.path / "children" / "train"))
    for child in (stage, train):
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_run_is_there_while_it_runs(here: Path) -> None:
    seen = []

    def look(run: Run) -> None:
        until(lambda: last_step(embedded(here), run) == 3)
        seen.append(tracked(embedded(here), run)[0].info.status)

    tiny(4).run(root=here / "runs", quiet=True, hooks=[AtStep(3, look)])
    assert seen == ["RUNNING"]
    assert tracked(embedded(here), only_run(here))[0].info.status == "FINISHED"


def test_a_killed_run_is_closed_and_resuming_it_goes_on_in_the_same_mlflow_run(here: Path) -> None:
    settings = ["--set", "steps=40", "--set", "checkpoint_every=10", *TINY]
    client = embedded(here)
    with Gated(here, 25, "run", "basics/maml", *settings) as gated:
        until(lambda: list(here.glob("runs/*/mlflow.json")))
        run = only_run(here)
        until(lambda: last_step(client, run) == 25)
        gated.kill()
        until(lambda: not mirrors(here))
    (killed,) = tracked(client, run)
    assert killed.info.status == "KILLED"
    assert killed.data.tags["metaloop.status"] == "interrupted"
    done = metaloop(here, "resume", "last")
    assert done.returncode == 0, done.stderr
    (found,) = tracked(client, run)
    assert found.info.run_id == killed.info.run_id
    assert found.info.status == "FINISHED"
    assert found.data.tags["metaloop.status"] == "finished"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 41))
    assert {m.step: m.value for m in history} == {row["step"]: row["loss"] for row in run.history() if "loss" in row}


FAKE_NVML = """
from types import SimpleNamespace as Numbers
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(i): return i
def nvmlDeviceGetMemoryInfo(handle): return Numbers(used=3_000_000_000, total=12_000_000_000)
def nvmlDeviceGetUtilizationRates(handle): return Numbers(gpu=87)
def nvmlDeviceGetPowerUsage(handle): return 150_000
def nvmlDeviceGetEnforcedPowerLimit(handle): return 300_000
"""


@pytest.mark.parametrize("gpu", [True, False])
def test_what_the_machine_does_is_logged_and_what_its_gpu_does(
    here: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    (here / "fake").mkdir()
    absent = FAKE_NVML.replace("def nvmlInit(): pass", "def nvmlInit(): raise NVMLError('no driver')")
    (here / "fake" / "pynvml.py").write_text(FAKE_NVML if gpu else absent)
    monkeypatch.setenv("PYTHONPATH", str(here / "fake"))
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    key, client = "system/cpu_utilization_percentage", embedded(here)

    def measured(run: Run) -> bool:
        return any(key in found.data.metrics for found in tracked(client, run))

    tiny(3).run(root=here / "runs", quiet=True, hooks=[AtStep(2, lambda run: until(lambda: measured(run)))])
    (found,) = tracked(client, only_run(here))
    metrics = found.data.metrics
    assert metrics["system/training_process_memory_megabytes"] > 50
    on_gpu = {name: value for name, value in metrics.items() if "gpu" in name}
    assert on_gpu == (
        {
            "system/gpu_0_utilization_percentage": 87,
            "system/gpu_0_memory_usage_percentage": 25,
            "system/gpu_0_memory_usage_megabytes": 3000,
            "system/gpu_0_power_usage_watts": 150,
            "system/gpu_0_power_usage_percentage": 50,
        }
        if gpu
        else {}
    )


def test_two_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from metaloop_mlflow import addresses
addresses.prepare()
from metaloop_mlflow.server import Server
print(Server(addresses.address(Path("runs"))).experiment("one"))
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ids = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ids[0] == ids[1] != ""


def test_a_mistake_that_leaves_no_run_leaves_nothing_in_mlflow(here: Path) -> None:
    def wrong(context: Any) -> dict[str, float]:
        raise UserError("there is no such file")

    with pytest.raises(UserError, match="no such file"):
        execute(Pipeline(name="mistaken", stages={"wrong": wrong}), root=here / "runs", quiet=True)
    assert list((here / "runs").iterdir()) == []
    assert embedded(here).get_experiment_by_name("mistaken") is None
