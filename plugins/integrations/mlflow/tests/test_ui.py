"""`metaloop ui`: MLflow's pages, as a browser shows them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from metaloop.store import Run

from .tools import PATIENCE, embedded, environment, free_port, metaloop, only_run, tracked, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRAINING = "workflowType=machine_learning"
PICTURE = os.environ.get("METALOOP_SCREENSHOT")
"""Where to keep the screenshot, for the docs."""


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """`metaloop ui` until the end of the block, ended by Ctrl-C; nothing of it is left then."""
    with (folder / "ui.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "metaloop", "ui", "--port", str(port)],
            cwd=folder, env=environment(), stdout=said, stderr=said,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        until(lambda: "Ctrl-C" in (folder / "ui.txt").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "ui.txt").read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert not psutil.wait_procs(family, timeout=PATIENCE)[1]
    finally:
        process.kill()
        process.wait()
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's chromium, without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield driver
    finally:
        driver.quit()


def test_a_browser_sees_an_icl_gd_run_with_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE_OFFLINE", "true")
    tiny = {"train.steps": 400, "train.task_batch": 64, "train.eval_tasks": 50, "alignment.tasks": 100}
    tiny |= {"alignment.iterations": "[1,2]", "tables.episodes": 20}
    words = [word for path, value in tiny.items() for word in ("--set", f"{path}={value}")]
    done = metaloop(tmp_path, "run", "icl-gd", "--device", "cpu", *words)
    assert done.returncode == 0, done.stderr
    client = embedded(tmp_path)
    (train,) = tracked(client, Run(only_run(tmp_path).path / "children" / "train"))
    with served(tmp_path, free_port()) as url, browser() as driver:
        driver.get(url)
        driver.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        driver.get(f"{url}/#/experiments?{TRAINING}")
        until(lambda: "icl-gd" in text(driver))
        driver.get(f"{url}/#/experiments/{train.info.experiment_id}/runs/{train.info.run_id}/model-metrics?{TRAINING}")
        until(lambda: drawn(driver) >= 3 and {"eval", "loss"} <= set(text(driver).split()))
        if PICTURE:
            driver.save_screenshot(PICTURE)


def text(driver: Any) -> str:
    return str(driver.find_element("tag name", "body").text)


def drawn(driver: Any) -> int:
    """How many curves are drawn."""
    return len(driver.find_elements("css selector", ".js-plotly-plot .scatterlayer .trace path.js-line"))


def test_without_anything_tracked_ui_says_so(tmp_path: Path) -> None:
    done = metaloop(tmp_path, "ui")
    assert done.returncode == 2
    assert "nothing is tracked yet" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = metaloop(tmp_path, "ui", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: port {port} can't be used")
    assert len(done.stderr.splitlines()) == 1


def test_of_a_server_elsewhere_ui_says_the_address(tmp_path: Path) -> None:
    done = metaloop(tmp_path, "ui", "--tracking-uri", "http://someone:secret@127.0.0.1:5999")
    assert done.returncode == 0
    assert done.stdout == "MLflow: http://127.0.0.1:5999\n"
