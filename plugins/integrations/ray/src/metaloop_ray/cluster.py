"""This process's connection to Ray: somebody's cluster, or a local one that ends with this process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaloop.errors import RunError, UserError
from metaloop.plugins import reason

# Read when Ray is imported. No telemetry; nothing printed among a command's output; and `uv run` is not taken for a
# wish to copy the current folder, which may hold gigabytes, to where workers run.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray

LOCAL = "local"
_CONNECT_SECONDS = 5.0
_made: tuple[str, int] | None = None
"""Address and CPUs of the connection that was made here; None where the caller initialised Ray."""


def connect(address: str | None, workers: int | None) -> None:
    """Be connected: to `address`, else to RAY_ADDRESS, else to a local cluster with room for the workers.

    A connection that is there and serves is kept, as is one that the caller made with `ray.init`.

    Raises:
        UserError: no cluster answers at the address.
        RunError: a local cluster did not start.
    """
    global _made
    wanted = address or os.environ.get("RAY_ADDRESS") or LOCAL
    cpus = max(workers or 0, os.cpu_count() or 1) if wanted == LOCAL else 0
    if ray.is_initialized() and (_made is None or (_made[0] == wanted and _made[1] >= cpus)):
        return
    if wanted not in (LOCAL, "auto"):
        _expect_answer(wanted)
    if ray.is_initialized():
        ray.shutdown()
    _made = None
    with _signals_kept():
        if wanted == LOCAL:
            _start(cpus)
        else:
            _join(wanted)
    _made = wanted, cpus


def slots(gpus: float) -> int:
    """How many items the cluster has room for at once.

    Raises:
        UserError: an item asks for more GPUs than there are, and would wait for ever.
    """
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if gpus > there.get("GPU", 0.0):
        raise UserError(f"gpus: an item asks for {gpus:g}, but the Ray cluster has {there.get('GPU', 0.0):g}.")
    room = [there.get("CPU", 1.0)] + ([there["GPU"] / gpus] if gpus else [])
    return max(1, int(min(room)))


def _start(cpus: int) -> None:
    for last in (False, False, True):
        before = _children()
        try:
            ray.init(
                address=LOCAL,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # Ray gives itself 30 s, which a busy machine may exceed
            ray.shutdown()
            for left in _children() - before:  # Ray forgets the processes of a start that failed
                os.kill(left, signal.SIGKILL)
            if last:
                raise RunError(f"a local Ray cluster did not start: {reason(error)}") from error


def _children() -> set[int]:
    """The Ray processes that this one started, as far as the system shows them (Linux)."""
    found = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    return {int(pid) for pid in found if b"/ray/" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise UserError(f"The Ray cluster at {address!r} can't be joined: {reason(error)}.") from error


def _expect_answer(address: str) -> None:
    """Ray itself tries a wrong address for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not host or "/" in host:
        raise UserError(f"The Ray address {address!r} is not one: write HOST:PORT, auto or local.")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster answers at {address} ({reason(error)}): mend RAY_ADDRESS or the executor's address, "
            "or leave both out for a local cluster."
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM over; a run that is under way wants it, to save a checkpoint."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
