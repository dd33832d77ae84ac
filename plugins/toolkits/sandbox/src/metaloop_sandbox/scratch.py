"""A scratch folder on the host, written by code that nobody has read."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress

ENTRIES = 10_000
"""Files and folders that there may be at once."""
DEPTH = 50
"""Folders that may be inside each other."""


def excess(folder: str, size: int) -> str | None:
    """Whether what is in the folder is more than `size` bytes, or more than can be counted quickly."""
    used, entries, waiting = 0, 0, [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    with suppress(FileNotFoundError):
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if used > size or entries > ENTRIES or depth > DEPTH:
                        return f"more than {size} bytes, {ENTRIES} files or {DEPTH} nested folders to scratch in"
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone meanwhile
        except PermissionError:
            return "a scratch folder that can't be looked into"
    return None


def remove(folder: str) -> None:
    """Remove the folder and what is in it, however deep: what is in a folder is lifted to the top first."""
    with suppress(OSError):  # code that a weak mechanism leaves free to may have taken it away
        _empty(folder)
        os.rmdir(folder)


def _empty(folder: str) -> None:
    if os.path.islink(folder):
        return
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in os.listdir(entry.path):
                os.rename(os.path.join(entry.path, inner), os.path.join(folder, uuid.uuid4().hex))
            os.rmdir(entry.path)
