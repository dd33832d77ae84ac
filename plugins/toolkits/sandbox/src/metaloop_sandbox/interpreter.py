"""The interpreter that sandboxed code runs in, and every file of it that the code may read."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from metaloop.errors import MetaloopError

FLAGS = ("-s", "-S", "-P", "-B", "-X", "utf8")
"""No site-packages, no current folder on the path, no compiled files. Not -I: it would ignore PYTHONHASHSEED."""
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""Sets of strings have one order, so that a program answers the same when it is started again."""

# Loads what extension modules there are, then asks the loader for the names under which it knows the libraries.
_PROBE = """
import contextlib, ctypes, importlib, io, json, os, sys
for folder in sys.path:
    if folder.endswith("lib-dynload") and os.path.isdir(folder):
        for name in {file.split(".")[0] for file in os.listdir(folder)}:
            if not name.startswith(("_test", "xx", "_xx", "_tk", "_curses", "readline", "_ssl")):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
names = []
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def found(info, size, data):
    names.append(os.fsdecode(info.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(found, None)
print(json.dumps({"path": sys.path, "libraries": [name for name in names if name.startswith("/")]}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An executable and what it reads."""

    executable: str
    folders: tuple[str, ...]
    """Of the standard library, none inside another."""
    hidden: tuple[str, ...]
    """Folders inside them that are not for sandboxed code: installed packages."""
    libraries: tuple[str, ...]
    """Shared libraries, each as the loader looks it up, outside `folders`."""

    @property
    def entries(self) -> list[str]:
        """What is in `folders`, without what is hidden."""
        return [entry.path for folder in self.folders for entry in os.scandir(folder) if entry.path not in self.hidden]


@functools.cache
def interpreter() -> Interpreter:
    """The one that this process runs, without its virtual environment."""
    executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    done = subprocess.run(
        [executable, *FLAGS, "-c", _PROBE], env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise MetaloopError(f"{executable} can't be asked for its files: {done.stderr.strip()[-300:]}")
    told = json.loads(done.stdout)
    paths = sorted({os.path.realpath(path) for path in told["path"] if os.path.isdir(path)})
    folders = tuple(path for path in paths if not any(path != other and _inside(path, other) for other in paths))
    hidden = [Path(folder, name) for folder in folders for name in ("site-packages", "dist-packages")]
    libraries = {os.path.normpath(name) for name in told["libraries"]}
    return Interpreter(
        executable=executable,
        folders=folders,
        hidden=tuple(str(path) for path in hidden if path.is_dir()),
        libraries=tuple(sorted(name for name in libraries if not any(_inside(name, folder) for folder in folders))),
    )


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
