"""A run and the runs inside it, copied to MLflow as parent and children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metaloop.store import Run

from metaloop_mlflow import notes
from metaloop_mlflow.copying import Copy, Sent, is_complete
from metaloop_mlflow.finding import LOCK, family
from metaloop_mlflow.server import Server


@dataclass
class Tree:
    """The copies of an outermost run and of what is inside it."""

    root: Run
    server: Server
    _experiment: str = ""
    _open: dict[Path, Copy] = field(default_factory=dict)
    _ended: dict[Path, tuple[str, notes.Stamp]] = field(default_factory=dict)
    """Runs that are over, with all that there was sent: MLflow's id, and the stamp of run.json."""

    def catch_up(self, final: bool) -> Sent:
        """Send what is missing; *final*: the process that runs them has done its work, or is no more."""
        if final and not self._open and _left_nothing(self.root):
            return Sent()
        self._experiment = self._experiment or self.server.experiment(self.root.name)
        sent = Sent()
        for run, parent in family(self.root):
            about = notes.stamp(run.path / "run.json")
            if self._ended.get(run.path, ("", None))[1] == about and (not final or self._is_complete(run)):
                continue
            copy = self._copy(run, parent)
            status = self._status(run, final)
            sent += copy.catch_up(status, final)
            if status != "running":
                self._ended[run.path] = copy.run_id, about
                del self._open[run.path]
        return sent

    def log_system(self, samples: Sequence[tuple[float, Mapping[str, float]]]) -> None:
        """Add what was measured of the machine."""
        if samples and (copy := self._open.get(self.root.path)):
            copy.log_system(samples)

    def _is_complete(self, run: Run) -> bool:
        return is_complete(run, notes.read(run, self.server.address.shown))

    def _copy(self, run: Run, parent: Run | None) -> Copy:
        if run.path not in self._open:
            self._open[run.path] = Copy(run, self.server, self._experiment, self._id(parent))
        return self._open[run.path]

    def _id(self, run: Run | None) -> str | None:
        if run is None:
            return None
        copy = self._open.get(run.path)
        return copy.run_id if copy else self._ended[run.path][0]

    def _status(self, run: Run, final: bool) -> str:
        """What a run's file says; one that says "running" is, while something holds it or what it is inside of.

        In the end it is not, whoever seems to hold it: a killed process closes its pipes before its locks.
        """
        said = str(run.info["status"])
        if said != "running":
            return said
        return "running" if not final and (run.in_use or self.root.in_use) else "interrupted"


def _left_nothing(run: Run) -> bool:
    """Whether a run failed before it made anything: then its folder goes again, and MLflow need not hear of it."""
    made = {path.name for path in run.path.rglob("*") if path.is_file()}
    return run.info["status"] == "failed" and made <= {"run.json", "lock", "error.txt", LOCK}
