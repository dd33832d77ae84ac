"""The process that follows a run while it runs: `python -m metaloop_mlflow.mirror RUN`, started by `hooks`.

It learns from its standard input that the run ended, and from the loss of its parent that the run was killed; in both
cases it sends the rest and ends. What the user should know goes to standard output, a JSON text per line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from metaloop import disk
from metaloop.plugins import reason
from metaloop.store import Run

from metaloop_mlflow import addresses, notes
from metaloop_mlflow.finding import LOCK
from metaloop_mlflow.hooks import longest_wait
from metaloop_mlflow.locking import held

if TYPE_CHECKING:
    from metaloop_mlflow.system import Sampler
    from metaloop_mlflow.tree import Tree

_INTERVAL = 1.0
_LONGEST_PAUSE = 10.0
_LAST_WORDS = 4.0
"""Seconds until the end, at the end of a run whose server is away."""


class Parent:
    """The process that trains, as seen from here."""

    def __init__(self) -> None:
        self._id = os.getppid()
        self._out = os.fdopen(os.dup(1), "w")  # what libraries print must not get between
        os.dup2(2, 1)
        self._ended = threading.Event()
        self.troubled = False
        """Whether the user was told that something is wrong."""
        threading.Thread(target=self._listen, daemon=True).start()

    def ended(self, seconds: float) -> bool:
        """Wait; True as soon as the run ended or its process is gone."""
        deadline = time.monotonic() + seconds
        while not self._ended.is_set() and os.getppid() == self._id:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._ended.wait(min(left, 1.0))
        self._end()
        return True

    def warn(self, message: str) -> None:
        """Tell the user, once."""
        if not self.troubled:
            self.troubled = True
            with suppress(OSError):
                print(json.dumps(message), file=self._out, flush=True)

    def _listen(self) -> None:
        sys.stdin.readline()
        self._end()

    def _end(self) -> None:
        """See to it that this process does not outlive the run by much, whatever a server does."""
        if not self._ended.is_set():
            self._ended.set()
            patience = min(_LAST_WORDS, longest_wait()) if self.troubled else longest_wait()
            watchdog = threading.Timer(patience, os._exit, (1,))
            watchdog.daemon = True
            watchdog.start()


def follow(run: Run, address: addresses.Address, parent: Parent) -> bool:
    """Copy a run until it ends; whether everything was sent."""
    tree: Tree | None = None
    sampler: Sampler | None = None
    failures = 0
    final = parent.ended(0.0)
    while True:
        began = time.monotonic()
        try:
            if tree is None:
                tree = _tree(run, address)
                sampler = sampler or _sampler(address)
            tree.catch_up(final)
            _log_system(tree, sampler)
        except Exception as error:
            tree, failures = None, failures + 1
            at_once = time.monotonic() - began < 1.0
            if failures > 1 or not at_once or final:
                parent.warn(_trouble(error, run, address))
            if final and (failures > 1 or not at_once):
                return False
        else:
            failures = 0
            if final:
                return True
        pause = min(_INTERVAL * 2**failures, _LONGEST_PAUSE) if failures else _INTERVAL
        if final:
            time.sleep(_INTERVAL)
        final = parent.ended(pause)


def _tree(run: Run, address: addresses.Address) -> Tree:
    from metaloop_mlflow.server import Server
    from metaloop_mlflow.tree import Tree

    return Tree(run, Server(address))


def _sampler(address: addresses.Address) -> Sampler | None:
    from metaloop_mlflow import system

    return system.sampler(address.uri)


def _log_system(tree: Tree, sampler: Sampler | None) -> None:
    if sampler is not None:
        sampler.look()
        samples = sampler.waiting()
        tree.log_system(samples)
        sampler.sent(samples)


def _trouble(error: Exception, run: Run, address: addresses.Address) -> str:
    return (
        f"MLflow at {address.shown} does not take run {run.id} ({short(error)}). The run goes on; "
        f"what is missing is sent when MLflow is back, or by: metaloop sync {run.id}"
    )


def short(error: BaseException) -> str:
    """Why, in a few words: the innermost cause, without the retries around it."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = reason(error)
    return text if len(text) <= 200 else f"{text[:197]}..."


def main() -> int:
    """Follow the run that the command line names."""
    if hasattr(os, "nice"):
        os.nice(5)
    run, parent = Run(Path(sys.argv[1])), Parent()
    address = addresses.address(run.path.parent)
    if address is None:
        return 0
    addresses.prepare()
    patient: Callable[[], bool] = lambda: not parent.ended(0.2)  # noqa: E731
    try:
        with held(run.path / LOCK, patient):
            complete = follow(run, address, parent)
            if not (run.path / notes.FILE).exists():
                (run.path / LOCK).unlink()  # leave no trace in a run that is not tracked
            return 0 if complete else 1
    except disk.InUseError:
        return 1


if __name__ == "__main__":
    os._exit(main())  # the run waits for the exit code, not for the taking down of all that MLflow imported
