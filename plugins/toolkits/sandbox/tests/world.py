"""The host as hostile code finds it: secrets, files, listeners, a process to attack; and what happened to them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import metaloop_sandbox.plugin

_HOLDS_SECRET = """
import ctypes, os, sys, time
held = ctypes.create_string_buffer(os.environ["SECRET"].encode())
print(ctypes.addressof(held), flush=True)
sys.stdin.read()
"""
_SUBREAPER = 36


def children() -> set[int]:
    """This process's children, those of its children that were orphaned included."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                folder.name.isdigit()
                and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
            ):
                found.add(int(folder.name))
    return found


class World:
    """Everything in it is new for one attack."""

    def __init__(self, folder: Path, victim: bool) -> None:
        self.token = uuid.uuid4().hex
        self.folder = str(folder / "outside")
        os.mkdir(self.folder)
        self.secret = os.path.join(self.folder, "secret.txt")
        Path(self.secret).write_text(self.token)
        self.victim_file = os.path.join(self.folder, "victim.txt")
        Path(self.victim_file).write_text("whole")
        self.left_open = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(self.left_open, True)
        self.shared = f"/dev/shm/{self.token}"
        self.key = int(self.token[:6], 16) + 1
        self._listeners = [
            socket.create_server(("127.0.0.1", 0)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            socket.socket(socket.AF_UNIX),
            socket.socket(socket.AF_UNIX),
        ]
        self._unix = str(folder / "socket")
        self._listeners[1].bind(("127.0.0.1", 0))
        self._listeners[2].bind(self._unix)
        self._listeners[3].bind("\0" + self.token)
        for listener in self._listeners:
            listener.setblocking(False)
            if listener.type == socket.SOCK_STREAM:
                listener.listen()
        self._signals = 0
        self._before = signal.signal(signal.SIGUSR1, self._count)
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        self._victim = None
        self._address = 0
        if victim:
            self._victim = subprocess.Popen(
                [sys.executable, "-S", "-c", _HOLDS_SECRET], env={"SECRET": self.token}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert self._victim.stdout is not None
            self._address = int(self._victim.stdout.readline())
        self.ours = children()

    def told(self) -> dict[str, Any]:
        """What the attacker knows: everything that it needs."""
        return {
            "secret": self.secret, "victim": self.victim_file, "folder": self.folder, "parent": os.getpid(),
            "port": self._listeners[0].getsockname()[1], "udp": self._listeners[1].getsockname()[1],
            "unix": self._unix, "abstract": self.token, "shared": self.shared, "key": self.key,
            "package": metaloop_sandbox.plugin.__file__, "address": self._address,
            "pid": self._victim.pid if self._victim else 0,
        }  # fmt: skip

    def _count(self, number: int, frame: object) -> None:
        self._signals += 1

    @property
    def victim_pid(self) -> int:
        assert self._victim is not None
        return self._victim.pid

    def victim_files(self) -> int:
        return resource.prlimit(self.victim_pid, resource.RLIMIT_NOFILE)[0]

    def victim_ended(self) -> bool:
        """Whether it is gone; it answers to nothing but the end of its input, so its end is waited for a moment."""
        assert self._victim is not None
        try:
            self._victim.wait(0.2)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signalled(self) -> bool:
        return self._signals > 0

    def strangers(self) -> set[int]:
        """Children of this process that it has not started."""
        return children() - self.ours

    def planted(self) -> bool:
        """Whether this process would import a module that the attacker wrote."""
        sys.path.insert(0, self.folder)
        try:
            return importlib.util.find_spec("planted") is not None
        finally:
            sys.path.remove(self.folder)
            importlib.invalidate_caches()

    def segment(self) -> bool:
        return ctypes.CDLL(None).shmget(self.key, 0, 0) >= 0

    def connected(self) -> bool:
        """Whether anything reached a listener."""
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(100)
                return True
        return False

    def close(self) -> None:
        for pid in self.strangers():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if self._victim is not None:
            self._victim.kill()
            self._victim.communicate()
        for listener in self._listeners:
            listener.close()
        os.close(self.left_open)
        signal.signal(signal.SIGUSR1, self._before)
        ctypes.CDLL(None).prctl(_SUBREAPER, 0, 0, 0, 0)
        libc = ctypes.CDLL(None)
        if os.path.ismount(self.folder):
            libc.umount(self.folder.encode())
        if (segment := libc.shmget(self.key, 0, 0)) >= 0:
            libc.shmctl(segment, 0, None)
        Path(self.shared).unlink(missing_ok=True)


@contextlib.contextmanager
def world(folder: Path, victim: bool) -> Iterator[World]:
    folder.mkdir()
    made = World(folder, victim)
    try:
        yield made
    finally:
        made.close()
