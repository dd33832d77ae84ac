"""Options that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from metaloop import plugins, tracking
from metaloop.errors import UserError

Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        metavar="DIR",
        help="Where runs are kept; by default METALOOP_RUNS, else 'runs' here.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables: only the run's folder.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Where something breaks, print the full traceback.")]
MaxTime = Annotated[
    str | None,
    typer.Option(
        "--max-time", metavar="TIME", help="Stop, resumably, after so long: 90s, 10m, 1.5h.", show_default=False
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, ...; auto takes CUDA where there is one.", show_default=False),
]

Executor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="in-process, process-pool, a plugin's (ray), an id, or {component: ID, FIELD: ...}.",
        show_default=False,
    ),
]


def _track(uri: str | None) -> str | None:
    """Hand the address to trackers by the environment, which worker processes inherit."""
    if uri is None:
        return None
    if uri != tracking.OFF and not any(record.plugin and record.plugin.hooks for record in plugins.discover()):
        raise typer.BadParameter("nothing that is installed tracks runs: pip install metaloop-mlflow")
    os.environ[tracking.VARIABLE] = uri
    return uri


TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        callback=_track,
        help="Where the installed tracker sends runs; 'off': nowhere.",
        show_default=False,
    ),
]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)")


def seconds(text: str | None) -> float | None:
    """A time as people write it, in seconds; raises UserError where it is none."""
    if text is None:
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise UserError(f"--max-time {text!r} is not a time: write 90s, 10m or 1.5h.")
    return float(match[1]) * _UNITS[match[2]]
