"""Where a run was made: machine, versions, git commit, command line."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from metaloop import plugins

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
"""User and password inside an address: never stored."""


def provenance() -> dict[str, Any]:
    """What a run notes about its origin, as JSON values."""
    return {"versions": plugins.versions(), "hardware": hardware(), "git": git_commit(), "command": command_line()}


def command_line() -> list[str]:
    """The words that started this process, without passwords in addresses."""
    return [_PASSWORD.sub("", word) for word in sys.argv]


def hardware() -> dict[str, Any]:
    """The machine and the compute libraries, as JSON values; imports torch."""
    import torch

    cuda = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cpu": _cpu(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cpu() -> str:
    """The processor's name as people know it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def git_commit(folder: Path | None = None) -> str | None:
    """The commit of the repository around `folder` (default: here), `-dirty` after it if files differ; None outside."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
