"""One run's copy in MLflow: reads the run's folder and sends what MLflow does not have yet."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from metaloop import yamltext
from metaloop.errors import UserError
from metaloop.store import THETA, Run
from mlflow.entities import Metric

from metaloop_mlflow import describing, notes
from metaloop_mlflow.server import Server

_ROWS, _ABOUT, _RESULT, _ARTIFACTS = "metrics.jsonl", "run.json", "result.json", "artifacts"
_FILES = (THETA, _RESULT, "error.txt")
"""Files of the run itself that become artifacts; `error.txt` is where a run that failed keeps its traceback."""
_BATCH = 1000
_SETTLED_SECONDS = 2.0


def is_complete(run: Run, known: notes.Notes) -> bool:
    """Whether all of a run had been sent, and nothing of it was changed since."""
    if not known.complete or known.complete != _stamps(run):
        return False
    return all(known.files.get(name) == now for name, now in _files(run, run.info["kind"]).items())


def _stamps(run: Run) -> list[notes.Stamp]:
    return [notes.stamp(run.path / name) for name in (_ABOUT, _ROWS)]


def _files(run: Run, kind: str) -> dict[str, notes.Stamp]:
    """A run's artifacts and their stamps; the YAML is made from the config, which never changes: its stamp is empty."""
    folder = run.path / _ARTIFACTS
    found: dict[str, notes.Stamp] = {f"{kind}.yaml": []}
    found |= {
        path.relative_to(folder).as_posix(): notes.stamp(path) for path in run.artifacts() if path.suffix != ".tmp"
    }
    return found | {name: now for name in _FILES if (now := notes.stamp(run.path / name))}


@dataclass
class Sent:
    """What was sent."""

    rows: int = 0
    files: int = 0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.rows + other.rows, self.files + other.files)


class Copy:
    """A run and its copy. One whose method raised is of no use any more: a new one asks MLflow what it has."""

    def __init__(self, run: Run, server: Server, experiment_id: str, parent_id: str | None) -> None:
        self._run, self._server = run, server
        self._about = run.info
        self._notes = notes.read(run, server.address.shown)
        self._rows = _Rows(run.path / _ROWS)
        found = server.run(experiment_id, run.id, self._notes.run_id)
        if found is None:
            start = describing.milliseconds(describing.moment(self._about["created"]))
            tags = describing.tags(run, self._about)
            found = server.create_run(experiment_id, run.path.name, start, tags, parent_id)
            self._notes = notes.Notes()
            server.parametrise(found.info.run_id, describing.params(self._about["config"]))
        elif missing := describing.params(self._about["config"]).items() - found.data.params.items():
            server.parametrise(found.info.run_id, dict(missing))
        self.run_id: str = found.info.run_id
        self._status: str = found.info.status
        self._history = _History(server, self.run_id, found.data.metrics)
        if self._notes.run_id != self.run_id:
            self._notes = notes.Notes(found.info.experiment_id, self.run_id)
            notes.write(run, server.address.shown, self._notes)

    def catch_up(self, status: str, final: bool) -> Sent:
        """Send what is missing of a run in this state; *final* where its files will not change any more."""
        stamps, over = _stamps(self._run), status != "running"
        if over and is_complete(self._run, self._notes) and self._status == describing.STATUS[status]:
            return Sent()
        if not over and self._status != "RUNNING":
            self._server.go_on(self.run_id)
            self._server.tag(self.run_id, {"metaloop.status": status})
            self._status = "RUNNING"
        sent = Sent(rows=self._send_rows()) + Sent(files=self._send_files(settled=final or over))
        if over:
            self._end(status)
            self._notes.complete = stamps
            notes.write(self._run, self._server.address.shown, self._notes)
        return sent

    def log_system(self, samples: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Add what was measured of the machine at some moments; steps are seconds since the run was made."""
        start = describing.moment(self._about["created"])
        self._server.log(
            self.run_id,
            [
                Metric(describing.name(key), value, describing.milliseconds(when), int(when - start))
                for when, sample in samples
                for key, value in sample.items()
            ],
        )

    def _send_rows(self) -> int:
        """Send new rows of metrics; how many there were of which MLflow lacked something."""
        if self._rows.were_cut():
            self._history.forget()
        batch: list[Metric] = []
        count = 0
        for row, values in self._rows.new():
            step, when = int(row.get("step", 0)), describing.milliseconds(float(row.get("time", 0.0)))
            lacking = [
                Metric(key, value, when, step) for key, value in values.items() if not self._history.has(key, step)
            ]
            count += bool(lacking)
            batch += lacking
            if len(batch) >= _BATCH:
                self._server.log(self.run_id, batch[:_BATCH])
                batch = batch[_BATCH:]
        if batch:
            self._server.log(self.run_id, batch)
        return count

    def _send_files(self, settled: bool) -> int:
        """Send files that are new or changed; those that are being written now only where they are *settled*."""
        count = 0
        for name, now in _files(self._run, self._about["kind"]).items():
            being_written = not settled and bool(now) and time.time() - now[1] / 1e9 < _SETTLED_SECONDS
            if being_written or self._notes.files.get(name) == now:
                continue
            path = self._run.path / name if name in _FILES else self._run.path / _ARTIFACTS / name
            if now:
                self._server.upload(self.run_id, path, name.rpartition("/")[0] or None)
            else:
                self._server.write(self.run_id, yamltext.dump(self._about["config"]), name)
            self._notes.files[name] = now
            count += 1
        if count:
            notes.write(self._run, self._server.address.shown, self._notes)
        return count

    def _end(self, status: str) -> None:
        """Closing numbers, tags, status and the moment of the end."""
        self._about = self._run.info
        result = self._run.result() or {}
        when = max(describing.moment(self._about.get("updated") or self._about["created"]), self._rows.last_time)
        at = describing.milliseconds(when)
        closing = {key: value for key, value in describing.metrics(result).items() if key not in self._rows.keys}
        step = int(result["steps"]) if isinstance(result.get("steps"), int) else self._rows.last_step
        lacking = [Metric(key, value, at, step) for key, value in closing.items() if not self._history.has(key, step)]
        if lacking:
            self._server.log(self.run_id, lacking)
        self._server.tag(self.run_id, describing.closing_tags(self._run, self._about, status, result))
        self._status = describing.STATUS[status]
        self._server.end(self.run_id, self._status, at)


class _Rows:
    """The rows of a run's metrics as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_again()

    def _start_again(self) -> None:
        self._inode, self._offset = -1, 0
        self._throughput = describing.Throughput()
        self.keys: set[str] = set()
        """The metrics that there were so far."""
        self.last_step, self.last_time = 0, 0.0

    def were_cut(self) -> bool:
        """Whether the file is another one than before: a resumed run takes its metrics back to the checkpoint."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        cut = self._offset > 0 and (now.st_ino != self._inode or now.st_size < self._offset)
        if cut:
            self._start_again()
        self._inode = now.st_ino
        return cut

    def new(self) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
        """Rows that were not read yet, and their metrics; a line that is still being written waits."""
        try:
            file = open(self._path, "rb")  # noqa: SIM115 (closed below)
        except FileNotFoundError:
            return
        with file:
            if os.fstat(file.fileno()).st_ino == self._inode:  # else it was cut just now: the next look will see
                yield from self._read(file)

    def _read(self, file: BinaryIO) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            row = _row(line, self._path)
            values = describing.metrics(row)
            if (throughput := self._throughput.after(row)) is not None:
                values[describing.THROUGHPUT] = throughput
            self.keys |= values.keys()
            self.last_step, self.last_time = int(row.get("step", 0)), float(row.get("time", 0.0))
            self._offset += len(line)
            yield row, values


def _row(line: bytes, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        raise UserError(f"a line of {path} is not a row of metrics: remove it") from None


class _History:
    """Which steps MLflow has of a metric, asked when it is needed, forgotten when the run is past them."""

    def __init__(self, server: Server, run_id: str, known: Iterable[str]) -> None:
        self._server, self._run_id = server, run_id
        self._unasked = set(known)
        self._steps: dict[str, tuple[int, set[int]]] = {}

    def has(self, key: str, step: int) -> bool:
        """Whether MLflow has a value of the metric at this step; steps are asked for in their order."""
        if key in self._unasked:
            self._unasked.discard(key)
            steps = self._server.steps(self._run_id, key)
            self._steps[key] = max(steps, default=-1), steps
        if key not in self._steps:
            return False
        last, steps = self._steps[key]
        if step > last:
            del self._steps[key]
        return step in steps

    def forget(self) -> None:
        """Ask again, for every metric."""
        self._unasked, self._steps = self._server.metrics(self._run_id), {}
