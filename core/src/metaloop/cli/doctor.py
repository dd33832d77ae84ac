"""`metaloop doctor`: what is installed, what works, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from metaloop import plugins
from metaloop.cli import options, output
from metaloop.cli.guard import guarded
from metaloop.store import list_runs, runs_root


@guarded
def doctor(as_json: options.Json = False, runs: options.Runs = None) -> None:
    """Look at the installation: versions, devices, plugins, and the folder of runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is in the table
        found = {
            "system": _system(),
            "versions": plugins.versions(),
            "plugins": _plugins(),
            "runs": _runs((runs or runs_root()).absolute()),
        }
    if as_json:
        output.print_json(found)
        return
    screen = output.console()
    table = output.table("", "")
    table.show_header = False
    sections: list[dict[str, Any]] = [found["system"], found["versions"], found["runs"]]
    for section in sections:
        for name, value in section.items():
            output.row(table, name, ", ".join(value) if isinstance(value, list) else value)
        table.add_section()
    screen.print(table)
    table = output.table("plugin", "status", "what is wrong")
    for name, about in found["plugins"].items():
        wrong = "; ".join(filter(None, [about["error"], about["hooks"]]))
        output.row(table, name, about["status"], wrong, style="red" if wrong else None)
    screen.print(table)


def _system() -> dict[str, Any]:
    """Python, torch, its devices, and whether torch.compile has a compiler."""
    import torch

    devices = [
        f"cuda:{index} {torch.cuda.get_device_name(index)} "
        f"({output.size(torch.cuda.get_device_properties(index).total_memory)})"
        for index in range(torch.cuda.device_count())
    ]
    return {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in torch",
        "cuda": devices or f"none ({'no device' if torch.version.cuda else 'this torch has no CUDA'})",
        "compiler": _compiler(),
    }


def _compiler() -> str:
    """What `compile=True` would use; it needs a C++ compiler on the CPU and Triton on CUDA."""
    asked = os.environ.get("CXX")
    names = [asked] if asked else ["cl"] if platform.system() == "Windows" else ["g++", "clang++"]
    return next(filter(None, map(shutil.which, names)), f"none of {', '.join(names)}: compile=True has no effect")


def _plugins() -> dict[str, dict[str, Any]]:
    """Each plugin's status, and what is wrong with its hooks."""
    from metaloop.hooks import load_hooks

    failed = load_hooks().failed
    return {
        record.name: {"status": record.status, "error": record.error, "hooks": _hooks(failed.get(record.name))}
        for record in plugins.discover()
    }


def _hooks(why: str | None) -> str | None:
    return f"its hooks {why}" if why else None


def _runs(root: Path) -> dict[str, Any]:
    """The folder of runs: whether it can be written, what it uses, and what is free."""
    from metaloop.housekeeping import disk_use

    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = "yes"
    except OSError as error:
        writable = f"no ({error.strerror})"
    stored = list_runs(root)
    use = f"{output.count(len(stored), 'run')}, {output.size(sum(map(disk_use, stored)))}"
    return {
        "runs": str(root),
        "writable": writable,
        "disk": f"{use}; {output.size(shutil.disk_usage(there).free)} free",
        **({"unreadable": [path.name for path in stored.broken]} if stored.broken else {}),
    }
