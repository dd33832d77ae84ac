"""Under torchrun two processes are one experiment: the same numbers, one run folder, one end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from metaloop.ranks import Ranks, here
from metaloop.saving import load_progress
from metaloop.store import Run, list_runs

from . import ranked
from .ranked import EXPERIMENTS, pipeline, plain, slow

pytestmark = pytest.mark.slow

RANKED = ranked.__name__
"""`core.tests.ranked` in the workspace, something shorter where this package lies alone."""
ROOT = Path(__file__).parents[RANKED.count(".")]
DECLARATION = f"""
from metaloop.manifest import Job, Part, Plugin

SPEC = Plugin(
    "ranked",
    "experiments for several ranks",
    components=(
        Part("ranked/bowls", "tasks", "metaloop.testing.toy_tasks:Quadratics"),
        Part("ranked/descent", "learner", "metaloop.testing.toys:Descent"),
        Part("ranked/slow", "meta-optimizer", "{RANKED}:Slow"),
        Part("ranked/faulty", "meta-optimizer", "{RANKED}:Faulty"),
    ),
    jobs=(Job("ranked/slow", "{RANKED}:slow"), Job("ranked/faulty", "{RANKED}:faulty")),
)
"""
EACH = pytest.mark.parametrize("name", EXPERIMENTS)


def near(value: Any) -> Any:
    """Equal but for the order in which floats were added."""
    if isinstance(value, dict):
        return {name: near(item) for name, item in value.items()}
    if isinstance(value, list):
        return [near(item) for item in value]
    return pytest.approx(value, rel=2e-4, abs=1e-6) if isinstance(value, float) else value


def rows(run: Run) -> list[dict[str, Any]]:
    """The history without its times."""
    return [{name: value for name, value in row.items() if name != "time"} for row in run.history()]


def torchrun(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Two ranks on this machine, with the plugin `ranked`, runs in `folder/runs`."""
    info = folder / "site" / "metaloop_ranked-1.0.dist-info"
    if not info.exists():
        info.mkdir(parents=True)
        (info.parent / "metaloop_ranked.py").write_text(DECLARATION)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metaloop-ranked\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[metaloop.plugins]\nranked = metaloop_ranked:SPEC\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(info.parent), str(ROOT), os.environ.get("PYTHONPATH")])),
        "METALOOP_RUNS": str(folder / "runs"),
        "METALOOP_PLUGINS": "core,ranked",
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        "OMP_NUM_THREADS": "1",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launch, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and output."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ranks ran all experiments, also those that were begun here."""
    folder = tmp_path_factory.mktemp("ranks")
    begun = {
        name: str(experiment.run(until=3, quiet=True, root=folder / "begun").path)
        for name, experiment in EXPERIMENTS.items()
    }
    (folder / "begun.json").write_text(json.dumps(begun))
    code, out, err = ended(torchrun(folder, "-m", RANKED, str(folder), "main"))
    assert code == 0, out + err
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Any]:
    """What each rank found."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@EACH
def test_two_ranks_give_the_numbers_of_one_process(name: str, ranks: list[Any], tmp_path: Path) -> None:
    whole = EXPERIMENTS[name].run(quiet=True, root=tmp_path)
    assert ranks[0][name]["theta"] == near(plain(whole.theta))
    assert ranks[0][name]["spent"] == list(whole.progress.spent)
    assert rows(Run(Path(ranks[0][name]["path"]))) == [near(row) for row in rows(whole.run)]


@EACH
def test_ranks_hold_the_same_theta_bit_by_bit(name: str, ranks: list[Any]) -> None:
    assert ranks[0][name] == ranks[1][name]


@EACH
def test_a_run_goes_on_under_more_ranks_or_fewer(name: str, ranks: list[Any], tmp_path: Path) -> None:
    whole = EXPERIMENTS[name].run(quiet=True, root=tmp_path)
    assert ranks[0][name]["resumed"] == near(plain(whole.theta))
    half = Run(Path(ranks[0][name]["half"]))
    assert half.status == "stopped"
    assert plain(EXPERIMENTS[name].run(run=half, quiet=True).theta) == near(plain(whole.theta))
    assert rows(half) == [near(row) for row in rows(whole.run)]


def test_there_is_one_run_folder_for_all_ranks(folder: Path, ranks: list[Any]) -> None:
    assert len(list_runs(folder / "runs")) == 2 * len(EXPERIMENTS) + 3  # a broken one, a pipeline, a refused window
    assert not list_runs(folder / "runs").broken


def test_an_error_on_one_rank_is_raised_on_all_and_they_can_go_on(ranks: list[Any]) -> None:
    assert ranks[0]["broken"] == "RunError: rank 1: ZeroDivisionError: no luck"
    assert ranks[1]["broken"] == "ZeroDivisionError: no luck"


def test_a_pipelines_experiments_are_split_and_its_stages_run_once(ranks: list[Any], tmp_path: Path) -> None:
    whole = pipeline().run(quiet=True, root=tmp_path)
    assert ranks[0]["pipeline"] == ranks[1]["pipeline"]
    assert ranks[0]["pipeline"]["two"] == near(plain(whole["two"].theta))
    assert ranks[0]["pipeline"]["look"] == near(dict(whole["look"]))
    run = Run(Path(ranks[0]["pipeline"]["path"]))
    assert (run.path / "looks").read_text() == "x"
    assert run.status == "finished"


def test_what_cannot_be_split_is_refused_on_all_ranks(ranks: list[Any]) -> None:
    assert ranks[0]["mistakes"] == ranks[1]["mistakes"]
    learning, sweep, windows = ranks[0]["mistakes"]
    assert "no meta-optimizer" in learning
    assert "a sweep can't be run by torchrun" in sweep
    assert "run this without torchrun" in windows
    assert {message.partition(":")[0] for message in ranks[0]["mistakes"]} == {"UserError"}


def test_a_command_that_breaks_on_rank_1_ends_with_one_sentence(tmp_path: Path) -> None:
    code, _, err = ended(torchrun(tmp_path, "-m", "metaloop", "run", "ranked/faulty", "--device", "cpu"))
    assert code == 1
    assert err.count("rank 1: ZeroDivisionError: no luck") == 1, err
    assert "error: " in err
    [run] = list_runs(tmp_path / "runs")
    assert run.status == "failed"
    assert 'raise ZeroDivisionError("no luck")' in (run.path / "error.txt").read_text()
    assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == ["000001", "000002"]


def test_a_stopped_run_is_resumed_and_ends_with_the_same_numbers(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "-m", "metaloop", "run", "ranked/slow", "--device", "cpu")
    while process.poll() is None and not list((tmp_path / "runs").glob("*/checkpoints/000002")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code != 0
    [run] = list_runs(tmp_path / "runs")
    assert run.status == "interrupted", err
    assert err.count("metaloop resume") == 1, err
    code, out, err = ended(torchrun(tmp_path, "-m", "metaloop", "resume", "last"))
    assert code == 0, err
    assert out.count(f"run: {run.path}") == 1
    whole = slow("cpu").but(steps=40).run(quiet=True, root=tmp_path / "whole")
    stored = load_progress(run.path / "checkpoints", slow("cpu"))
    assert stored is not None
    assert plain(stored.theta) == near(plain(whole.theta))
    assert rows(run) == [near(row) for row in rows(whole.run)]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_the_exchange_is_left_for_pythons_own_end(tmp_path: Path) -> None:
    code, out, err = ended(torchrun(tmp_path, "-m", RANKED, str(tmp_path), "end"))
    assert code == 0, out + err
    for rank in (0, 1):  # one that is left may abort the process when it wants Python once more
        assert [name for name in json.loads((tmp_path / f"threads-{rank}.json").read_text()) if "gloo" in name] == []


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert here() == Ranks()
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("METALOOP_RANK_PROCESS", raising=False)
    assert here() == Ranks(1, 2, 1)
    code = "from metaloop.ranks import here; print(here().size)"  # an executor's worker, a tracker's helper
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "1"
    monkeypatch.delenv("METALOOP_RANK_PROCESS")
