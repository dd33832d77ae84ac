"""What people see while something runs; silent where there is neither terminal nor notebook."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def console() -> Console:
    """Where progress goes: standard error, so that standard output stays fit for scripts."""
    return Console(stderr=True)


class Bar:
    """A progress bar over steps, with the latest losses beside it."""

    def __init__(self, name: str, total: int, done: int = 0, quiet: bool = False) -> None:
        screen = console()
        shown = not quiet and (screen.is_terminal or screen.is_jupyter)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=screen,
            disable=not shown,
            transient=not screen.is_jupyter,
        )
        self._task = self._progress.add_task(name, total=total, completed=done, note="")
        self._shown, self._last = shown, 0.0

    def at(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Move to a step; the screen is touched ten times a second at most."""
        if not self._shown or time.monotonic() - self._last < 0.1:
            return
        self._last = time.monotonic()
        note = "  ".join(f"{name} {value:.4g}" for name, value in (values or {}).items() if math.isfinite(value))
        self._progress.update(self._task, completed=step, note=note)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()
