"""Runs and the runs inside them, by their folders."""

from __future__ import annotations

import os
from collections.abc import Iterator

from metaloop.store import Run

LOCK = "mlflow.lock"
"""In the folder of an outermost run: held by the one process that sends it."""
_CHILDREN = "children"


def outermost(run: Run) -> Run:
    """The run that a run is inside of, or itself."""
    while run.path.parent.name == _CHILDREN and (run.path.parent.parent / "run.json").is_file():
        run = Run(run.path.parent.parent)
    return run


def family(run: Run, parent: Run | None = None) -> Iterator[tuple[Run, Run | None]]:
    """The run and all runs inside it, each after the run that it is inside of, which comes with it."""
    yield run, parent
    try:
        names = sorted(entry.name for entry in os.scandir(run.path / _CHILDREN) if not entry.name.startswith("."))
    except FileNotFoundError:
        return
    for name in names:
        child = Run(run.path / _CHILDREN / name)
        if (child.path / "run.json").is_file():
            yield from family(child, run)
