"""What MLflow is told about a run, as plain values; imports no MLflow."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from metaloop.store import Run
from metaloop.summaries import numbers

RUN = "metaloop.run"
"""The tag that says which run of the run store this is."""
STATUS = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "stopped": "KILLED",
}
"""MLflow's word for a run's status."""
THROUGHPUT = "throughput/tasks_per_second"
THROUGHPUT_SECONDS = 5.0

_KEY, _PARAM, _TAG = 250, 6000, 8000  # characters that MLflow takes
_FORBIDDEN = re.compile(r"[^\w./ :-]")


def name(text: str) -> str:
    """A name as MLflow takes it."""
    return _FORBIDDEN.sub("_", text)[:_KEY]


def params(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting by its path, `learner.inner_lr`, as text."""
    return {name(path): text[:_PARAM] for path, text in _flat(config) if path}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        value = {str(position): item for position, item in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def tags(run: Run, info: Mapping[str, Any]) -> dict[str, str]:
    """Where a run was made and of what."""
    hardware = info.get("hardware") or {}
    command = shlex.join(info.get("command") or ())
    found = {
        RUN: run.id,
        "metaloop.kind": info["kind"],
        "seed": info.get("seed"),
        "command": command,
        "git.commit": info.get("git"),
        "mlflow.source.git.commit": info.get("git"),
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        **{what: hardware.get(what) for what in ("device", "cpu", "torch", "cuda", "python")},
        **{f"version.{package}": version for package, version in (info.get("versions") or {}).items()},
    }
    return _texts(found)


def closing_tags(run: Run, info: Mapping[str, Any], status: str, result: Mapping[str, Any]) -> dict[str, str]:
    """How a run ended; of claims the verdicts, and their table as the text that MLflow shows on a run's page."""
    ended = {"metaloop.status": status, "metaloop.error": (info.get("summary") or {}).get("error")}
    if info["kind"] != "verify":
        return _texts(ended)
    judged = {claim: found for claim, found in result.items() if isinstance(found, Mapping) and "verdict" in found}
    table = run.path / "artifacts" / "claims.md"
    shown = table.read_text(encoding="utf-8") if table.is_file() else None
    verdicts = {f"claim.{claim}": found["verdict"] for claim, found in judged.items()}
    return _texts({**ended, **verdicts, "mlflow.note.content": shown})


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name(key): str(value)[:_TAG] for key, value in values.items() if value not in (None, "")}


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, or of closing numbers."""
    return {name(key): float(value) for key, value in numbers(row) if key not in ("step", "time")}


def milliseconds(seconds: float) -> int:
    """A time as MLflow keeps it."""
    return round(1000 * seconds)


def moment(iso: str) -> float:
    """A time of `run.json`, in seconds."""
    return datetime.fromisoformat(iso).timestamp()


class Throughput:
    """Task evaluations per second, from the rows' own times: a value for every few seconds of them."""

    def __init__(self) -> None:
        self._since: tuple[float, float] | None = None

    def after(self, row: Mapping[str, Any]) -> float | None:
        """The value that is due at this row, if one is."""
        if "evaluations" not in row or "time" not in row:
            return None
        time, done = float(row["time"]), float(row["evaluations"])
        before = self._since = self._since or (time, done)
        if time - before[0] < THROUGHPUT_SECONDS:
            return None
        self._since = time, done
        return (done - before[1]) / (time - before[0])
