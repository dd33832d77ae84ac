"""Where a run is now, read from its folder: whatever process or machine it runs in, and only what is new."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

_TAIL = 1 << 14  # bytes of metrics that one look reads at most


class Follower:
    """Follows one run and the runs inside it; what is half written or missing is read at a later look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, Any] = {}
        self.parts: dict[str, Follower] = {}
        """The runs inside, by folder."""
        self.step: int | None = None
        self.losses: dict[str, float] = {}
        """The latest ones."""
        self._state: tuple[int, ...] | None = None
        self._before: tuple[int, ...] | None = None
        self._read = 0

    @classmethod
    def resting(cls, path: Path) -> Self:
        """Follow a run as it lies there: it has begun once its `run.json` is written again."""
        found = cls(path)
        found._look_at_run()
        found._before = found._state
        found.parts = {inside.name: cls.resting(inside) for inside in runs_inside(path)}
        return found

    @property
    def running(self) -> bool:
        """Whether it began since it is followed, and has not ended."""
        return self.begun and self.info.get("status") == "running"

    @property
    def begun(self) -> bool:
        """Whether it began since it is followed: a killed process leaves "running" in the file."""
        return self._state is not None and self._state != self._before

    @property
    def total(self) -> int | None:
        """How many steps there will be, for an experiment."""
        config = self.info.get("config")
        if not isinstance(config, Mapping) or config.get("component") != "experiment":
            return None
        steps = config.get("steps")
        if steps is None and isinstance(learner := config.get("learner"), Mapping):
            steps = learner.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    def look(self) -> None:
        """Read what is new."""
        self._look_at_run()
        self._look_at_metrics()
        for path in runs_inside(self.path):
            self.parts.setdefault(path.name, Follower(path)).look()

    def working(self) -> list[Follower]:
        """This run, the run inside it that is running, the one inside that: `[pipeline, stage]`."""
        running = [part for part in self.parts.values() if part.running]
        latest = max(running, key=lambda part: str(part.info.get("updated", "")), default=None)
        return [self, *(latest.working() if latest else [])]

    def _look_at_run(self) -> None:
        file = self.path / "run.json"
        try:
            about = file.stat()
            state = (about.st_mtime_ns, about.st_size, about.st_ino)
            if state == self._state:
                return
            info = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(info, dict):
            self.info, self._state = info, state

    def _look_at_metrics(self) -> None:
        try:
            with (self.path / "metrics.jsonl").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self._read:
                    self._read = 0  # a resumed run took its rows back
                start = file.seek(max(self._read, size - _TAIL))
                data = file.read(_TAIL)
        except OSError:
            return
        whole = data.rfind(b"\n") + 1  # behind it is a line that is being written
        self._read = start + whole
        for line in data[:whole].splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the rest of a line that the tail begins in
            if isinstance(row, dict):
                self._note(row)

    def _note(self, row: Mapping[str, Any]) -> None:
        if isinstance(step := row.get("step"), int):
            self.step = step
        for name, value in row.items():
            if name.endswith("loss") and isinstance(value, int | float) and math.isfinite(value):
                self.losses[name] = value


def runs_inside(run: Path) -> list[Path]:
    """The folders of the runs inside a run, in no order."""
    try:
        with os.scandir(run / "children") as found:
            return [Path(entry.path) for entry in found if not entry.name.startswith(".")]
    except OSError:
        return []
