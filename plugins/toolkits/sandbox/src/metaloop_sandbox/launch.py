"""Starts the confined process, limits it, measures it and kills it."""

from __future__ import annotations

import functools
import json
import math
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.errors import MetaloopError

from metaloop_sandbox import scratch, seccomp
from metaloop_sandbox.interpreter import ENVIRONMENT, FLAGS, interpreter
from metaloop_sandbox.mechanism import Mechanism

PATIENCE = 60
"""Seconds that a process may take to be ready, or to be gone once it was killed."""

_INSIDE = "/scratch"


class LaunchError(MetaloopError):
    """The mechanism does not work here, and why."""


@dataclass(frozen=True)
class Limits:
    """What holds for the process's whole life."""

    memory_mb: int = 512
    scratch_mb: int = 16
    processes: int = 1


class Process:
    """A confined interpreter that waits for its first request, stopped until `go`."""

    def __init__(self, mechanism: Mechanism, limits: Limits = Limits()) -> None:
        """Start it.

        Raises:
            LaunchError: it did not get ready.
        """
        self._limits = limits
        self._used = 0.0
        self._pidfd = -1
        self._folder = None if mechanism == "bubblewrap" else tempfile.mkdtemp(prefix="metaloop-sandbox-")
        self._own_group = mechanism != "bubblewrap"
        self.socket, theirs = socket.socketpair()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._popen: subprocess.Popen[bytes] | None = None
        try:
            self._start(mechanism, theirs)
            self.layers = self._ready()
            self._bound()
            self.halt()
        except BaseException as error:
            self.end()
            if isinstance(error, OSError | ValueError):
                raise LaunchError(f"{type(error).__name__}: {error}") from error
            raise

    def _start(self, mechanism: Mechanism, theirs: socket.socket) -> None:
        python = [interpreter().executable, *FLAGS, "-c", _child(), str(theirs.fileno())]
        passed = [theirs.fileno()]
        how: dict[str, Any] = {}
        if mechanism == "bubblewrap":
            passed.append(rules := _readable(seccomp.program(threads=self._limits.processes > 1, execve=True)))
            python = [*_bubblewrap(self._limits, rules), *python]
        else:
            how = self._confinement(mechanism)
        try:
            self._popen = subprocess.Popen(
                python,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd=self._folder or "/",
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C is for the parent
            )
        finally:
            theirs.close()
            for descriptor in passed[1:]:
                os.close(descriptor)
        with suppress(OSError):  # it has ended: `_ready` says why
            self.socket.sendall(json.dumps(how).encode() + b"\n")

    def _confinement(self, mechanism: Mechanism) -> dict[str, Any]:
        """What the child has to do to itself."""
        files = interpreter()
        paths = {
            "list": files.folders,
            "read": [*files.entries, *files.libraries, "/dev/null", "/dev/zero", "/dev/urandom"],
            "write": [self._folder, "/dev/null"],
        }
        rules = seccomp.program(threads=self._limits.processes > 1, execve=False).hex()
        return {
            "parent": os.getpid(),
            "landlock": paths if mechanism == "landlock" else None,
            "seccomp": rules if mechanism != "rlimits" else None,
        }

    def _ready(self) -> tuple[str, ...]:
        """Wait for the child's first line. The kernel tells with it which process, by our numbers, sent it."""
        assert self._popen is not None
        assert self._popen.stderr is not None
        self.socket.settimeout(1)
        line = b""
        told: list[tuple[int, int, bytes]] = []
        for _ in range(PATIENCE):  # not one long wait, which would run out while this process is itself stopped
            try:
                line, told, _, _ = self.socket.recvmsg(1 << 12, socket.CMSG_SPACE(struct.calcsize("3i")))
                break
            except TimeoutError:
                continue
            except OSError:
                break
        if not line.endswith(b"\n"):
            self._popen.kill()
            said = self._popen.stderr.read().decode(errors="replace").strip().splitlines()
            raise LaunchError(said[-1] if said else "it ended before it was ready")
        self._popen.stderr.close()
        pid = struct.unpack("3i", told[0][2])[0]
        self._pidfd, self.pid = os.pidfd_open(pid), pid
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return tuple(json.loads(line)["layers"])

    def _bound(self) -> None:
        """Limits that the kernel holds; the filter keeps the process from changing them."""
        megabyte = 1 << 20
        bounds = {
            resource.RLIMIT_AS: self._limits.memory_mb * megabyte,
            resource.RLIMIT_FSIZE: self._limits.scratch_mb * megabyte,
            resource.RLIMIT_NOFILE: 64,
            resource.RLIMIT_CORE: 1,  # 0 would still wake a host's crash reporter
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        if not self._own_group:  # in its own user namespace nothing else is counted
            bounds[resource.RLIMIT_NPROC] = self._limits.processes
        for which, bound in bounds.items():
            hard = resource.prlimit(self.pid, which)[1]  # the host may allow less, which can't be raised
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.prlimit(self.pid, which, (bound, bound))

    def go(self, cpu_seconds: float) -> None:
        """Let it run. The kernel's own limit is for when this process can't look at what it uses."""
        if self._own_group:  # the first process of a namespace, as under bubblewrap, ignores it
            hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)[1]
            soft = math.ceil(self.cpu() + cpu_seconds) + 1
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (soft, hard))
        self._signal(signal.SIGCONT)

    def halt(self) -> None:
        """Stop it: between calls nothing runs."""
        self._signal(signal.SIGSTOP)

    def cpu(self) -> float:
        """Processor seconds that it has used."""
        with suppress(OSError):
            self._used = time.clock_gettime((~self.pid << 3) | 2)  # the kernel's number of that process's clock
        return self._used

    def excess(self) -> str | None:
        """What it has too much of, of all that the kernel does not bound."""
        if self._limits.processes > 1:
            with suppress(OSError):
                if len(os.listdir(f"/proc/{self.pid}/task")) > self._limits.processes:
                    return f"more than {self._limits.processes} threads"
        return None if self._folder is None else scratch.excess(self._folder, self._limits.scratch_mb << 20)

    def end(self) -> int | None:
        """Kill it, wait until it is gone, remove its scratch folder. Its exit status, negative for a signal."""
        status = None
        self._signal(signal.SIGKILL)
        if self._popen is not None:
            if self._own_group:
                with suppress(ProcessLookupError):
                    os.killpg(self._popen.pid, signal.SIGKILL)
            if self._pidfd < 0:
                self._popen.kill()  # bubblewrap takes what it has started along
            status = self._wait(self._popen)
            if self._popen.stderr is not None:
                self._popen.stderr.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.socket.close()
        if self._folder is not None:
            scratch.remove(self._folder)
            self._folder = None
        return status

    def _wait(self, popen: subprocess.Popen[bytes]) -> int:
        try:
            status = popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            popen.kill()
            status = popen.wait()
        return 128 - status if self._folder is None and status > 128 else status  # bubblewrap adds 128

    def _signal(self, which: signal.Signals) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, which)


@functools.cache
def _child() -> str:
    return Path(__file__).with_name("child.py").read_text()


def _readable(data: bytes) -> int:
    """A descriptor from which the bytes, fewer than a pipe holds, can be read."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def _bubblewrap(limits: Limits, rules: int) -> list[str]:
    """A root that has the interpreter, its files and an empty scratch folder; all namespaces new; no capabilities."""
    files = interpreter()
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise LaunchError("bwrap is not installed")
    command = [bwrap, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--as-pid-1"]  # bubblewrap's own first process would be left as a zombie
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    for path in (*files.folders, files.executable, *files.libraries):
        command += ["--ro-bind", os.path.realpath(path), path]
    for path in files.hidden:
        command += ["--tmpfs", path, "--remount-ro", path]
    for path in ("/dev/null", "/dev/zero", "/dev/urandom"):
        command += ["--dev-bind", path, path]
    command += ["--size", str(limits.scratch_mb << 20), "--tmpfs", _INSIDE, "--chdir", _INSIDE]
    return [*command, "--remount-ro", "/", "--seccomp", str(rules), "--"]
