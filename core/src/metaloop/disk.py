"""How metaloop changes files: written aside, flushed, renamed; and one lock per folder.

Every operation that changes the disk passes through `call`, so a test can make any one of them fail (a full disk) or
kill the process right there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_BINARY: int = getattr(os, "O_BINARY", 0)
_LARGEST_WRITE = 1 << 30  # macOS refuses writes of 2 GiB
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.EOPNOTSUPP}


def call(operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do one operation that changes the disk; tests put a failing one in its place."""
    return operation(*args, **kwargs)


def write(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    file = call(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
    try:
        _put(file, data)
        call(os.fsync, file)
    finally:
        os.close(file)


def replace(path: Path, data: bytes) -> None:
    """Write a file so that readers find the old content or the new, never a part."""
    aside = path.with_name(path.name + ".tmp")
    try:
        write(aside, data)
        call(os.replace, aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append in one write, not flushed; when the disk is full the file is as before."""
    file = call(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)
    try:
        size = os.fstat(file).st_size
        try:
            _put(file, data)
        except BaseException:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def sync(path: Path) -> None:
    """Flush a file that was appended to; nothing to do where there is none."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | _BINARY)
        try:
            call(os.fsync, file)
        finally:
            os.close(file)


def sync_folder(path: Path) -> None:
    """Flush a folder's names, so that a rename outlives a power cut."""
    if sys.platform == "win32":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        call(os.fsync, folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(folder)


def _put(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[call(os.write, file, rest[:_LARGEST_WRITE]) :]


class InUseError(Exception):
    """Another holder has the lock; the message says who."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; the system lets go of it when the process ends, however it ends.

    Raises:
        InUseError: someone else holds it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
    try:
        for wait in (0.0, 0.01, 0.05, 0.1):  # `is_locked` of another process holds it for a moment
            time.sleep(wait)
            if taken := _try_lock(file):
                break
        if not taken:
            os.lseek(file, 0, os.SEEK_SET)
            raise InUseError(os.read(file, 200).decode(errors="replace") or "another process")
        with contextlib.suppress(OSError):  # who holds it is a courtesy, and the disk may be full
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """True while some process holds the lock file at `path`."""
    try:
        file = os.open(path, os.O_RDWR | _BINARY)
    except OSError:
        return False
    try:
        return not _try_lock(file, quiet=True)
    finally:
        os.close(file)


def _try_lock(file: int, *, quiet: bool = False) -> bool:
    """Lock an open file without waiting; True as well, with a warning, where the file system knows no locks."""
    try:
        _lock_now(file)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            if not quiet:
                warnings.warn("this file system has no locks: see to it that only one process uses a run", stacklevel=4)
            return True
        return False
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock_now(file: int) -> None:
        """Lock one byte far behind the text, which must stay readable: Windows locks keep readers out."""
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock_now(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
