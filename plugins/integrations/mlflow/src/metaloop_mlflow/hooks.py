"""Starts the process that mirrors a run into MLflow, and tells it when the run ends; imports no MLflow itself.

MLflow takes seconds to import and holds the interpreter's lock while it works, so none of it happens in the process
that trains. That process writes its run to the disk, as it does anyway; `metaloop_mlflow.mirror` reads it there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

from metaloop.hooks import hookimpl
from metaloop.store import Run
from metaloop.tracking import OFF, tracking_uri

from metaloop_mlflow.finding import outermost

END = "end\n"
"""What the mirror reads when the run ended; the pipe's end without it means that this process was killed."""
WAIT = "METALOOP_TRACKING_WAIT"
"""The environment variable for how many seconds the end of a run waits, at most, for what is still to be sent."""
_GRACE = 2.0  # the mirror keeps to the limit itself, and says what is wrong before


def longest_wait() -> float:
    """Seconds that the end of a run waits at most."""
    return float(os.environ.get(WAIT) or 60.0)


class Tracker:
    """The hooks: one mirror for the outermost of the runs that this process begins."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._mirror: Mirror | None = None

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Start a mirror, unless one looks after this run already."""
        if self._path is not None or tracking_uri() == OFF:
            return
        outer = outermost(run)
        if outer == run or not outer.in_use:
            self._path, self._mirror = run.path, Mirror(outer)

    @hookimpl
    def run_ended(self, run: Run) -> None:
        """Let the mirror send the rest."""
        if self._mirror is not None and run.path == self._path:
            mirror, self._path, self._mirror = self._mirror, None, None
            mirror.finish()


class Mirror:
    """The process that mirrors a run, as seen from the one that trains."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._warned = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "metaloop_mlflow.mirror", str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run; the mirror is told how it ended
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="metaloop-mlflow", daemon=True)
        self._listener.start()

    def finish(self) -> None:
        """Wait until everything is sent, but not for long: what is left is a matter of `metaloop sync`."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(END)
        with suppress(OSError):
            self._process.stdin.close()
        try:
            code = self._process.wait(longest_wait() + _GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            code = self._process.wait()
        self._listener.join(2.0)
        if code and not self._warned:
            self._warn(f"not all of run {self._run.id} is in MLflow: metaloop sync {self._run.id} sends the rest")

    def _listen(self) -> None:
        """Say what the mirror has to say: one JSON text per line."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._warn(str(json.loads(line)))

    def _warn(self, message: str) -> None:
        self._warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=2)
