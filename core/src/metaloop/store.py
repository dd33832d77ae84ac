"""The run store: one folder per run, complete by itself.

    runs/<name>-<date>-<time>-<4 hex>/
        run.json           what ran: config, versions, hardware, command line, status
        metrics.jsonl      one row per line, as they come
        checkpoints/       see `metaloop.checkpoint`
        artifacts/         pictures, tables
        theta.safetensors  the final theta of an experiment, where it is tensors
        result.json        the closing numbers
        children/<name>    runs inside this run: stages of a pipeline, seeds of a sweep

Importing this module imports no torch, so that listing runs is quick.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

from metaloop import disk, plugins
from metaloop.errors import UnknownName, UserError

Status = Literal["running", "finished", "stopped", "failed", "interrupted"]

THETA = "theta.safetensors"
MAKING, REMOVING = ".making-", ".removing-"  # how folders begin that are not runs yet, or no longer


def runs_root() -> Path:
    """Where runs are kept: the variable METALOOP_RUNS, else `runs` in the current folder."""
    return Path(os.environ.get("METALOOP_RUNS") or "runs").expanduser().absolute()


@dataclass(frozen=True)
class Run:
    """A run's folder; made with `Run.create`, found with `Run.open`."""

    path: Path

    @classmethod
    def create(
        cls,
        config: Mapping[str, Any],
        *,
        name: str,
        root: Path | str | None = None,
        kind: str = "experiment",
        parent: str | None = None,
        seed: int | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Make a new run; a process killed meanwhile leaves no part of one.

        Args:
            config: the dump of what runs, JSON values.
            name: what the run is called; characters that folders don't like become dashes.
            root: where runs are kept, by default `runs_root()`.
            kind: experiment, pipeline, stage, ...
            parent: id of the run that this one belongs to.
            seed: the run's seed.
            folder: the run's own folder, instead of a new one in `root`.

        Raises:
            UserError: the folder can't be written, or `folder` exists.
        """
        from metaloop.provenance import provenance

        now = datetime.now().astimezone()
        about = {
            "name": name,
            "kind": kind,
            "created": now.isoformat(),
            "status": "running",
            "config": config,
            "seed": seed,
            "parent": parent,
            **provenance(),
        }
        if folder is not None:
            run = cls(folder.absolute())
            if not run._make(about):
                raise UserError(f"the run {run.path} exists already")
            return run
        root = Path(root or runs_root()).absolute()
        while True:
            run = cls(root / f"{_slug(name)}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
            if run._make(about):
                return run

    def _make(self, about: Mapping[str, Any]) -> bool:
        """Make the folder aside and rename it; False where it exists."""
        root, data = self.path.parent, _json({"id": self.id, **about})
        aside = root / f"{MAKING}{self.path.name}-{secrets.token_hex(4)}"
        try:
            disk.call(os.makedirs, root, exist_ok=True)
            disk.call(os.mkdir, aside)
            disk.write(aside / "run.json", data)
            disk.sync_folder(aside)
            disk.call(os.rename, aside, self.path)
            disk.sync_folder(root)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and (self.path / "run.json").exists():
                return False
            raise UserError(
                f"can't write runs to {root} ({error.strerror}): set METALOOP_RUNS to a folder that can be written"
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return True

    @classmethod
    def open(cls, run: str | Path, root: Path | None = None) -> Self:
        """The run with this path, id or unique beginning of an id; "last" is the newest.

        Raises:
            UnknownName: there is no such run, or several begin like this.
        """
        if (Path(run) / "run.json").is_file():
            return cls(Path(run).absolute())
        root = Path(root or runs_root()).absolute()
        first, *rest = str(run).split("/")
        if (first, rest) == ("last", []) and (found := list_runs(root)):
            return cls(found[0].path)
        names = sorted(path.name for path in _run_folders(root))
        matches = [first] if first in names else [name for name in names if first and name.startswith(first)]
        if len(matches) > 1:
            raise UnknownName(f"{first!r} begins {len(matches)} run ids: {', '.join(matches)}; write more of one")
        path = Path(root, *matches, *(part for child in rest for part in ("children", child)))
        if not matches or not (path / "run.json").is_file():
            raise UnknownName(f"there is no run {str(run)!r} in {root}.{plugins.nearest(str(run), names)}")
        return cls(path)

    @property
    def id(self) -> str:
        """The folder's name; a child's has its parent's id in front: `parent/stage`."""
        inside = self.path.parent
        return f"{Run(inside.parent).id}/{self.path.name}" if inside.name == "children" else self.path.name

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says now.

        Raises:
            UserError: it is missing or not JSON.
        """
        try:
            info = json.loads((self.path / "run.json").read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"the run {self.path} has no readable run.json: {error}") from error
        if not isinstance(info, dict) or not {"name", "kind", "created", "status", "config"} <= info.keys():
            raise UserError(f"the run {self.path} has a run.json that is not a run's")
        return info

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.info["name"])

    @property
    def config(self) -> dict[str, Any]:
        """The dump of what runs."""
        return dict(self.info["config"])

    @property
    def status(self) -> str:
        """running, finished, stopped, failed or interrupted; a run whose process was killed is interrupted."""
        status = str(self.info["status"])
        return "interrupted" if status == "running" and not self.in_use else status

    @property
    def in_use(self) -> bool:
        """True while a process holds the run's lock."""
        return disk.is_locked(self.path / "lock")

    def folder(self, name: str) -> Path:
        """A folder of the run, made when missing."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def lock(self) -> Iterator[Self]:
        """Hold the run, so that no other process works on it.

        Raises:
            UserError: another process does, or the run's folder can't be written.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(disk.lock(self.path / "lock"))
            except disk.InUseError as holder:
                raise UserError(f"run {self.id} is in use by {holder}: wait for it to end, or stop it") from None
            except OSError as error:
                raise UserError(f"run {self.id} can't be locked: {error}") from error
            yield self

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows of metrics, in one write; numbers keep all their digits."""
        if rows:
            disk.append(self._metrics, b"".join(_json(row) for row in rows))

    def sync(self) -> None:
        """Flush the metrics to the disk."""
        disk.sync(self._metrics)

    def cut(self, step: int) -> None:
        """Take the metrics back to a step: later rows go, and what a killed process left of a line."""
        lines = self._lines()
        kept = [line for line, row in lines if row is not None and row.get("step", step) <= step]
        if len(kept) < len(lines):
            disk.replace(self._metrics, b"".join(kept))

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics, without what a killed process left of a line.

        Raises:
            UserError: a line that is not the last one is no row.
        """
        return [row for _, row in self._lines() if row is not None]

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def _lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Each line of the metrics and its row: None for a last line that is torn."""
        try:
            lines = self._metrics.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        rows: list[tuple[bytes, dict[str, Any] | None]] = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) and number < len(lines):
                raise UserError(f"line {number} of {self._metrics} is not a row of metrics: remove it")
            rows.append((line, row if isinstance(row, dict) else None))
        return rows

    def set_status(self, status: Status, **summary: Any) -> None:
        """Write the status, and a few words or numbers to go with it."""
        if status not in get_args(Status):
            raise ValueError(f"a run's status is one of {', '.join(get_args(Status))}, not {status!r}")
        now = datetime.now().astimezone().isoformat()
        disk.replace(self.path / "run.json", _json(self.info | {"status": status, "updated": now, "summary": summary}))

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Store the closing numbers."""
        disk.replace(self.path / "result.json", _json(result))

    def result(self) -> dict[str, Any] | None:
        """The closing numbers, or None while there are none."""
        try:
            return dict(json.loads((self.path / "result.json").read_bytes()))
        except FileNotFoundError:
            return None

    def artifact(self, name: str) -> Path:
        """Where an artifact of this name goes, its folder made: `run.artifact("curves/loss.png")`.

        Raises:
            UserError: the name leads out of the run's artifacts.
        """
        inside = (self.path / "artifacts").resolve()
        path = (inside / name).resolve()
        if inside not in path.parents:
            raise UserError(f"an artifact's name must stay inside the run's artifacts, and {name!r} does not")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def artifacts(self) -> list[Path]:
        """The files that were stored as artifacts, by name."""
        return sorted(path for path in (self.path / "artifacts").rglob("*") if path.is_file())

    def child(self, name: str, config: Mapping[str, Any], *, kind: str = "experiment", seed: int | None = None) -> Run:
        """The run of this name inside this run: opened where it exists, else made.

        Raises:
            UserError: another name has the same folder, or it can't be written.
        """
        path = self.path / "children" / _slug(name)
        if (path / "run.json").is_file():
            if (taken := Run(path).name) != name:
                raise UserError(f"{name!r} and {taken!r} would share the folder {path.name!r} of {self.id}: rename one")
            return Run(path)
        return Run.create(config, name=name, kind=kind, parent=self.id, seed=seed, folder=path)

    def children(self) -> list[Run]:
        """The runs inside this run, oldest first."""
        return list_runs(self.path / "children")[::-1]


class Runs(list[Run]):
    """Runs, and why folders that look like runs can't be read."""

    def __init__(self, runs: Iterable[Run], broken: dict[Path, str]) -> None:
        super().__init__(runs)
        self.broken = broken


def list_runs(root: Path | None = None) -> Runs:
    """The runs in a folder, newest first."""
    dated: list[tuple[datetime, Run]] = []
    broken: dict[Path, str] = {}
    for path in _run_folders((root or runs_root()).absolute()):
        run = Run(path)
        try:
            dated.append((datetime.fromisoformat(run.info["created"]).astimezone(), run))
        except (UserError, TypeError, ValueError) as error:
            broken[path] = str(error)
    return Runs((run for _, run in sorted(dated, key=lambda pair: (pair[0], pair[1].id), reverse=True)), broken)


def _run_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if not path.name.startswith(".") and (path / "run.json").exists()]


def _slug(name: str) -> str:
    """A name as one that folders like."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:100] or "run"


def _json(value: Mapping[str, Any]) -> bytes:
    """One line of JSON; NumPy values and tensors become plain numbers and lists."""
    return json.dumps(value, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a run stores JSON values, and {type(value).__name__} is none")
