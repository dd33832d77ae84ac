"""A tracking server that dies, hangs or was never there: the run goes on, and what is missing is sent later."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from metaloop import loop
from metaloop.store import Run
from metaloop_mlflow.hooks import WAIT

from .tools import (
    PATIENCE,
    TINY,
    AtStep,
    LiveServer,
    Proxy,
    assert_all_rows_once,
    free_port,
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for all tests; one that kills it starts it again."""
    live = LiveServer(tmp_path_factory.mktemp("server"))
    yield live
    live.kill()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run experiments of this process in, whose rows are written one by one."""
    monkeypatch.setattr(loop, "_FLUSH_ROWS", 1)
    monkeypatch.setenv(WAIT, str(PATIENCE))
    return tmp_path


def synced(folder: Path, uri: str) -> tuple[int, int, str]:
    done = metaloop(folder, "sync", "--json", "--tracking-uri", uri)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["runs"]
    return row["rows"], row["files"], row["state"]


def test_a_server_killed_in_the_middle_costs_one_warning_and_sync_sends_what_is_missing(
    server: LiveServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METALOOP_TRACKING_URI", server.uri)

    def kill(run: Run) -> None:
        until(lambda: last_step(server.client, run) == 20)
        server.kill()

    with pytest.warns(RuntimeWarning) as caught:
        result = tiny(60).run(root=here / "runs", quiet=True, hooks=[AtStep(20, kill)])
    assert result.run.status == "finished"
    assert [row["step"] for row in result.run.history() if "loss" in row] == list(range(1, 61))
    (warning,) = caught
    assert f"metaloop sync {result.run.id}" in str(warning.message)
    server.start()
    assert last_step(server.client, result.run) == 20
    rows, files, state = synced(here, server.uri)
    assert (rows, state) == (40 + 2, "sent")  # the last 40 steps, and the two evaluations there
    assert files >= 2
    found = assert_all_rows_once(server.client, result.run)
    assert found.info.status == "FINISHED"
    assert {"result.json", "theta.safetensors"} <= {f.path for f in server.client.list_artifacts(found.info.run_id)}
    assert synced(here, server.uri) == (0, 0, "was complete")
    assert_all_rows_once(server.client, result.run)


def test_a_server_that_hangs_stops_neither_the_run_nor_its_end_and_one_that_is_back_gets_the_rest(
    server: LiveServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(server.uri)
    monkeypatch.setenv("METALOOP_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")

    def hang(run: Run) -> None:
        until(lambda: last_step(server.client, run) == 10)
        proxy.hang()

    with pytest.warns(RuntimeWarning) as caught:
        result = tiny(30).run(root=here / "runs", quiet=True, hooks=[AtStep(10, hang)])
    assert proxy.hangs
    assert [row["step"] for row in result.run.history() if "loss" in row] == list(range(1, 31))
    assert len(caught) == 1
    assert not mirrors(here)
    proxy.flow()
    assert synced(here, proxy.uri)[2] == "sent"
    assert assert_all_rows_once(server.client, result.run).info.status == "FINISHED"
    proxy.close()


def test_a_server_that_comes_back_during_the_run_has_everything_at_its_end(
    server: LiveServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METALOOP_TRACKING_URI", server.uri)

    def kill(run: Run) -> None:
        until(lambda: last_step(server.client, run) == 5)
        server.kill()

    def come_back(run: Run) -> None:
        server.start()
        until(lambda: last_step(server.client, run) == 9)

    listeners = [AtStep(5, kill), AtStep(9, come_back)]
    with warnings.catch_warnings(record=True) as caught:
        result = tiny(10).run(root=here / "runs", quiet=True, hooks=listeners)
    assert len(caught) <= 1
    assert_all_rows_once(server.client, result.run)


def test_a_server_that_never_was_costs_one_warning(tmp_path: Path) -> None:
    uri = f"http://someone:secret@127.0.0.1:{free_port()}"
    done = metaloop(tmp_path, "run", "basics/maml", "--set", "steps=5", *TINY, "--tracking-uri", uri)
    assert done.returncode == 0, done.stderr
    (warning,) = warnings_in(done.stderr)
    assert "secret" not in done.stderr
    run = only_run(tmp_path)
    assert f"metaloop sync {run.id}" in warning
    assert len([row for row in run.history() if "loss" in row]) == 5
    failed = metaloop(tmp_path, "sync", "--tracking-uri", uri)
    assert failed.returncode == 1
    assert "does not take the runs" in failed.stderr
    assert "secret" not in failed.stderr


def test_claims_are_tags_metrics_and_a_table(server: LiveServer, here: Path) -> None:
    done = metaloop(here, "verify", "icl-gd", "--claim", "C1", "--seeds", "1", "--tracking-uri", server.uri)
    assert done.returncode == 0, done.stderr
    (found,) = tracked(server.client, only_run(here))
    result = only_run(here).result()
    assert result is not None
    assert found.data.tags["claim.C1"] == result["C1"]["verdict"]
    assert found.data.metrics["C1.estimate"] == result["C1"]["estimate"]
    assert "C1" in found.data.tags["mlflow.note.content"]
    assert {"claims.json", "claims.md"} <= {f.path for f in server.client.list_artifacts(found.info.run_id)}
