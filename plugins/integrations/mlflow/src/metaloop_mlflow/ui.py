"""`metaloop ui`: MLflow's pages on the tracked runs, served to this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Annotated, Any

import typer
from metaloop.cli import options, output
from metaloop.cli.guard import Broke, guarded
from metaloop.errors import UserError
from metaloop.store import runs_root

from metaloop_mlflow import addresses

_HOST = "127.0.0.1"
_START_SECONDS = 180.0
_STOP_SECONDS = 5.0


@guarded
def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to serve.")] = 5000,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    runs: options.Runs = None,
    tracking_uri: options.TrackingUri = None,
    traceback: options.Traceback = False,
) -> None:
    """Open MLflow's pages on the tracked runs; Ctrl-C ends it."""
    address = addresses.address(runs or runs_root())
    if address is None:
        raise UserError("tracking is off (METALOOP_TRACKING_URI=off): unset it, or say where with --tracking-uri")
    if address.is_server:
        _open(address.uri, address.shown, no_open)
        return
    if address.database is not None and not address.database.is_file():
        raise UserError(
            f"nothing is tracked yet in {address.database}: run something, or send stored runs: metaloop sync"
        )
    _refuse_taken(port)
    with _until_told(), tempfile.TemporaryFile() as log, _serving(address, port, log) as process:
        _wait_until_ready(process, port, log)
        where = f"http://{_HOST}:{port}/#/experiments?workflowType=machine_learning"
        _open(where, where, no_open)
        output.say("Ctrl-C ends it.")
        process.wait()
        raise Broke(f"MLflow's server ended by itself: {_last_line(log)}")


def _open(url: str, shown: str, no_open: bool) -> None:
    """Say where the pages are, and open them for people."""
    output.console().print(f"MLflow: {shown}", soft_wrap=True)
    if not no_open and sys.stdout.isatty():
        webbrowser.open(url)


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError(f"port {port} can't be used ({error.strerror}): choose another with --port") from None


@contextmanager
def _until_told() -> Iterator[None]:
    """Ctrl-C is how this command ends; so are the signals of a closed terminal and of `kill`."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        output.say("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _serving(address: addresses.Address, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, a process group of its own, none of which is left afterwards."""
    addresses.prepare()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    where = ["--host", _HOST, "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", address.uri, "--default-artifact-root", str(address.artifacts)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mlflow", "server", *where, *store],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with output.console(stderr=True).status("MLflow is starting, which takes some seconds"):
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Broke(f"MLflow's server did not start: {_last_line(log)}")
            with suppress(OSError), urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=5):
                return
            time.sleep(0.2)
    raise Broke(f"MLflow's server did not answer within {_START_SECONDS:.0f} seconds: {_last_line(log)}")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
