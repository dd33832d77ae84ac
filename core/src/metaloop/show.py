"""What people see while something runs; silent where there is neither terminal nor notebook."""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metaloop.follow import Follower, runs_inside

_A_SECOND = 1
"""How often a board looks at its runs: what that costs comes off the time of runs in this process."""
_MOST = 20
"""Rows of a board in a notebook, which has no height."""
_LATEST = 8
"""Rows of a board for runs that ended."""
_STYLES = {"finished": "green", "failed": "red", "stopped": "yellow", "interrupted": "yellow"}


def console() -> Console:
    """Where progress goes: standard error, so that standard output stays fit for scripts."""
    return Console(stderr=True)


class Bar:
    """A progress bar over steps, with the latest losses beside it."""

    def __init__(self, name: str, total: int, done: int = 0, quiet: bool = False) -> None:
        screen = console()
        shown = not quiet and _is_seen(screen)
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
        finite = {name: value for name, value in (values or {}).items() if math.isfinite(value)}
        self._progress.update(self._task, completed=step, note=_losses(finite))

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()


@dataclass
class _Row:
    follower: Follower
    began: float | None = None
    ended: float | None = None
    status: str = ""

    @property
    def name(self) -> str:
        return str(self.follower.info.get("name"))


class Board:
    """A live table of the runs inside a run, read from their folders: they may run anywhere.

    Args:
        name: what the whole is called.
        path: the folder of the run that they are inside.
        runs: by a run's name, what distinguishes it: column -> cell.
        done: the names of those that were finished before.
        quiet: show nothing.
    """

    def __init__(
        self, name: str, path: Path, runs: Mapping[str, Mapping[str, str]], done: Iterable[str], quiet: bool = False
    ) -> None:
        self._screen = console()
        self._shown = not quiet and _is_seen(self._screen)
        self._name, self._path, self._runs, self._done = name, path, runs, frozenset(done)
        self._ended: dict[str, str] = {}
        self._rows: dict[Path, _Row] = {}
        self._live: Live | None = None
        self._warn = warnings.showwarning
        self._printing = threading.RLock()
        if self._shown:  # as they lie there before anything begins
            self._rows = {inside: _Row(Follower.resting(inside)) for inside in runs_inside(path)}

    def ended(self, name: str, status: str) -> None:
        """Note how a run ended."""
        self._ended[name] = status

    def __enter__(self) -> Board:
        if self._shown:
            self._begin()
            if not self._screen.is_jupyter:
                self._warn, warnings.showwarning = warnings.showwarning, self._above
        return self

    def __exit__(self, *_: Any) -> None:
        with self._printing:
            self._shown = False
            if self._live is not None:
                if self._screen.is_jupyter:
                    self._live.refresh()  # it stays
                else:
                    warnings.showwarning = self._warn
                self._live.stop()

    def _begin(self) -> None:
        if not self._shown or (self._live is not None and self._live.is_started):
            return
        self._live = Live(
            get_renderable=self._table,
            console=self._screen,
            refresh_per_second=_A_SECOND,
            transient=not self._screen.is_jupyter,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def _above(self, *message: Any, **more: Any) -> None:
        """Print a warning where the table was; the table goes on below."""
        with self._printing:
            if self._live is not None:
                self._live.stop()
            self._warn(*message, **more)
            self._begin()

    def _look(self, now: float) -> None:
        """Read what is new of the runs whose end was not seen yet."""
        for path in runs_inside(self._path):
            row = self._rows.setdefault(path, _Row(Follower(path)))
            if row.name not in self._done and not (row.status and row.status == self._ended.get(row.name)):
                self._update(row, now)

    def _update(self, row: _Row, now: float) -> None:
        row.follower.look()
        if not row.follower.begun:
            return
        row.began = now if row.began is None else row.began
        status = str(row.follower.info.get("status"))
        row.status = self._ended.get(row.name, status)
        row.ended = None if row.status == "running" else row.ended or now

    def _table(self) -> Group:
        now = time.monotonic()
        self._look(now)
        begun = [row for row in self._rows.values() if row.began is not None]
        running = sorted((row for row in begun if row.ended is None), key=lambda row: row.began or 0)
        order = {name: position for position, name in enumerate(tuple(self._ended))}
        over = [row for row in begun if row.ended is not None]
        over.sort(key=lambda row: order.get(row.name, len(order)), reverse=True)
        fits = max(1, _MOST if self._screen.is_jupyter else self._screen.height - 6)
        shown = [*running, *over[:_LATEST]][:fits]
        staged = any(row.follower.parts for row in shown)
        columns = list(next(iter(self._runs.values()), {}))
        table = Table(box=box.SIMPLE_HEAD, title=Text(self._name), title_justify="left", title_style="bold")
        for column in [*columns, *(["stage"] if staged else []), "", "step", "time", "latest"]:
            right, shrinks = column in ("seed", "step", "time"), column in ("latest", *columns)
            table.add_column(_line(_leaf(column, columns)), justify="right" if right else "left", no_wrap=not shrinks)
        for row in shown:
            table.add_row(*self._cells(row, columns, staged, now))
        footer = Text(" " + self._footer(running, now), "bold")
        return Group(table, footer) if shown else Group(Text(self._name, "bold"), footer)

    def _cells(self, row: _Row, columns: list[str], staged: bool, now: float) -> Iterator[Text | ProgressBar]:
        settings = self._runs.get(row.name, {})
        yield from (_line(settings.get(column, "")) for column in columns)
        working = row.follower.working()
        at, step, total = working[-1], working[-1].step, working[-1].total
        if staged:
            yield _line("/".join(str(part.info.get("name")) for part in working[1:]))
        if row.ended is not None:
            yield _line(row.status, _STYLES.get(row.status, ""))
        else:
            yield ProgressBar(total, min(step or 0, total), width=16) if total else Text()
        yield _line(f"{step or 0:,} of {total:,}" if total else "" if step is None else f"{step:,}")
        yield _line(str(timedelta(seconds=int((row.ended or now) - (row.began or now)))))
        error = (row.follower.info.get("summary") or {}).get("error") if row.status == "failed" else None
        yield _line(" ".join(str(error).split()), "red") if error else _line(_losses(at.losses))

    def _footer(self, running: list[_Row], now: float) -> str:
        """How many are done, and how long the others may take."""
        ends = list(self._ended.values())
        words = [f"{len(self._done) + ends.count('finished')} of {len(self._runs)} done", f"{len(running)} running"]
        words += [f"{ends.count(status)} {status}" for status in ("failed", "stopped") if status in ends]
        parts = sum(
            min(1.0, row.follower.step / row.follower.total)
            for row in running
            if row.follower.step and row.follower.total
        )
        work = len(ends) + parts
        elapsed = now - min((row.began for row in self._rows.values() if row.began is not None), default=now)
        if running and work > 0.05 and elapsed > 2:
            words.append(f"about {_roughly(elapsed / work * (len(self._runs) - len(self._done) - work))} left")
        return ", ".join(words)


def _is_seen(screen: Console) -> bool:
    return screen.is_terminal or screen.is_jupyter


def _leaf(path: str, among: Iterable[str]) -> str:
    """The last part of a setting's path, where no other path ends so."""
    leaf = path.rpartition(".")[2]
    return path if any(other != path and other.rpartition(".")[2] == leaf for other in among) else leaf


def _line(text: str, style: str = "") -> Text:
    """A cell of one line, cut where it does not fit."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _losses(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _roughly(seconds: float) -> str:
    """A time that nobody can know exactly: `"40 s"`, `"3 min"`, `"2.5 h"`."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
