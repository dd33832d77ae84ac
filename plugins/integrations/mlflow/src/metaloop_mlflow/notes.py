"""`mlflow.json` in a run's folder: which MLflow run it is, in each store, and which files are there as they are now."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from metaloop import disk
from metaloop.store import Run

FILE = "mlflow.json"

Stamp = list[int]
"""Size and time of change of a file: another stamp, another content."""


@dataclass
class Notes:
    """What is known about one run in one store; a help, no truth: MLflow is asked what it has."""

    experiment_id: str = ""
    run_id: str = ""
    files: dict[str, Stamp] = field(default_factory=dict)
    """Artifact -> the stamp under which it was sent."""
    complete: list[Stamp] = field(default_factory=list)
    """The stamps of `run.json` and `metrics.jsonl` when everything was sent; empty before."""


def read(run: Run, store: str) -> Notes:
    """The notes on a run in the store of this address; new ones where there are none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return Notes(**json.loads((run.path / FILE).read_bytes())[store])
    return Notes()


def write(run: Run, store: str, notes: Notes) -> None:
    """Keep the notes, beside those on other stores."""
    path = run.path / FILE
    try:
        kept = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        kept = {}
    disk.replace(path, json.dumps(kept | {store: asdict(notes)}, indent=1).encode())


def stamp(path: Path) -> Stamp:
    """A file's stamp; that of a missing file is empty."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return []
    return [found.st_size, found.st_mtime_ns]
