"""One composition at several settings and seeds: the children of one run, spread by an executor."""

from __future__ import annotations

import errno
import itertools
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from metaloop.component import Component, Options
from metaloop.errors import UserError
from metaloop.executors import AnyExecutor, InProcess, in_worker
from metaloop.experiment import Experiment
from metaloop.groups import grouped
from metaloop.hooks import Hooks, load_hooks
from metaloop.loop import broke, started
from metaloop.overrides import override
from metaloop.pipeline import Pipeline
from metaloop.plugins import reason
from metaloop.ranks import refuse
from metaloop.show import Board
from metaloop.store import Run, Status
from metaloop.summaries import interval, numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Child(NamedTuple):
    """One run of a sweep, as planned."""

    name: str
    point: int
    """Which of the sweep's settings."""
    seed: int
    composition: Experiment | Pipeline


class Sweep(Component):
    """The same experiment or pipeline at every point of a grid of settings, each under several seeds."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][\w./-]*$", description="what the run is called")
    base: Experiment | Pipeline = Field(union_mode="left_to_right", description="what is run")
    grid: Options = Field(Options(), description="path -> values; the points are all combinations")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="seeds that every point is run under")
    executor: AnyExecutor = Field(InProcess(), description="where the runs go")

    @classmethod
    def component_id(cls) -> str:
        """What run files call a sweep."""
        return "sweep"

    @field_validator("base", mode="before")
    @classmethod
    def _load_base(cls, value: Any) -> Any:
        # One class at a time: the union would ask each class to load the other's dump.
        if isinstance(value, Mapping):
            is_pipeline = value.get("component") == Pipeline.component_id()
            return (Pipeline if is_pipeline else Experiment).model_validate(value)
        return value

    @model_validator(mode="after")
    def _composes(self) -> Self:
        """Refuse a point that does not compose, before any is run."""
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds: {list(self.seeds)} names one twice.")
        if "seed" in self.grid:
            raise UserError("grid: seeds are swept by the field seeds.")
        for path, values in self.grid.items():
            if not isinstance(values, tuple) or not values:
                raise UserError(f"grid: {path} needs a list of values.")
        self.children  # noqa: B018 (composes them)
        return self

    @cached_property
    def points(self) -> tuple[dict[str, Any], ...]:
        """The settings of every point."""
        return tuple(dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values()))

    @cached_property
    def children(self) -> tuple[Child, ...]:
        """Every run, by point and seed."""
        found: list[Child] = []
        for number, settings in enumerate(self.points):
            composition = override(self.base, settings.items()) if settings else self.base
            for seed in self.seeds:
                words = [f"{path}={_word(value)}" for path, value in settings.items()]
                name = " ".join([f"{len(found):03d}", *words, f"seed={seed}"])
                found.append(Child(name, number, seed, composition.but(seed=seed)))
        return tuple(found)

    def run(
        self,
        *,
        run: Run | None = None,
        root: Path | str | None = None,
        max_seconds: float | None = None,
        quiet: bool = False,
        hooks: Sequence[object] | Hooks = (),
    ) -> SweepResult:
        """Run the children that are not finished yet; one that breaks is noted and the others go on.

        Args:
            run: an existing run to resume; None makes a new one.
            root: the folder for a new run.
            max_seconds: stop, resumably, once so much time has passed.
            quiet: no progress bar.
            hooks: objects that listen to the sweep's own run; its children are told to the plugins only.

        Raises:
            UserError: a child can't be run at all.
            KeyboardInterrupt: Ctrl-C, after running children wrote a checkpoint.
        """
        refuse("a sweep", "leave torchrun out, and spread its runs with --executor")
        self.base.torch_device  # noqa: B018 (a device that can't be used is refused before a run is made)
        if run is None:
            run = Run.create(self.model_dump(mode="json"), name=self.name, root=root, kind="sweep")
        deadline = None if max_seconds is None else time.time() + max_seconds
        with run.lock():
            listeners = hooks if isinstance(hooks, Hooks) else load_hooks(hooks)
            started(run, listeners)
            try:
                ended = self._run_children(run, deadline, quiet)
                rows = self._rows(run, ended)
                result = SweepResult(self, run, rows)
                run.write_result({"points": result.table(), "runs": rows})
                failed = [row for row in rows if row["status"] == "failed"]
                stopped = any(row["status"] != "finished" for row in rows)
                status: Status = "failed" if failed else "stopped" if stopped else "finished"
                run.set_status(status, **({"error": failed[0]["error"]} if failed else {}))
            except BaseException as error:
                broke(run, listeners, error)
                raise
            listeners.run_ended(run=run, status=status, summary=run.result() or {})
        return result

    def _run_children(self, run: Run, deadline: float | None, quiet: bool) -> dict[str, _Ended]:
        """How each child ended, by name."""
        known = {child.name: child.status for child in run.children()}
        ended = {child.name: _Ended("finished") for child in self.children if known.get(child.name) == "finished"}
        left = [child for child in self.children if child.name not in ended]
        items = [_Item(run.path, child.name, child.composition, _document(child), deadline) for child in left]
        board = Board(self.name, run.path, {child.name: self._cells(child) for child in self.children}, ended, quiet)
        results = self.executor.map(_run_child, items)
        try:
            with board:
                for position, end in results:
                    for message in end.warnings:
                        warnings.warn(message, stacklevel=2)
                    if end.stop is not None:
                        raise end.stop
                    if end.status == "interrupted":
                        raise KeyboardInterrupt
                    ended[left[position].name] = end
                    board.ended(left[position].name, end.status)
        finally:
            if callable(close := getattr(results, "close", None)):
                close()  # or workers would go on behind an exception's traceback
        return ended

    def _cells(self, child: Child) -> dict[str, str]:
        """What distinguishes a child, in words."""
        return {path: _word(value) for path, value in self.points[child.point].items()} | {"seed": str(child.seed)}

    def _rows(self, run: Run, ended: Mapping[str, _Ended]) -> tuple[dict[str, Any], ...]:
        """One row per child, in order."""
        runs = {child.name: child for child in run.children()}
        return tuple(
            {
                "point": child.point,
                "settings": _plain(self.points[child.point]),
                "seed": child.seed,
                "status": ended[child.name].status,
                "error": ended[child.name].error,
                "summary": (runs[child.name].result() or {}) if ended[child.name].status == "finished" else {},
                "run": runs[child.name].id if child.name in runs else None,
            }
            for child in self.children
        )


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind."""

    sweep: Sweep
    run: Run
    rows: tuple[dict[str, Any], ...]
    """One per child: point, settings, seed, status, error, summary and the id of its run."""

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def summary(self) -> dict[str, Any]:
        """The closing numbers: `points` and `runs`."""
        return dict(self.run.result() or {})

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        """The rows of children that broke."""
        return tuple(row for row in self.rows if row["status"] == "failed")

    def table(self) -> list[dict[str, Any]]:
        """For every point its settings and, by metric, mean, 95% interval over seeds and n."""
        found = []
        for number, settings in enumerate(self.sweep.points):
            ended = [dict(numbers(row["summary"])) for row in self.rows if row["point"] == number and row["summary"]]
            names = dict.fromkeys(name for values in ended for name in values)
            metrics = {name: interval([values[name] for values in ended if name in values]) for name in names}
            found.append({"settings": _plain(settings), "metrics": {k: v._asdict() for k, v in metrics.items()}})
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """One row per child: its settings, seed, status and closing numbers.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise UserError("to_dataframe needs pandas: pip install 'metaloop[frame]'") from error
        rows = [
            {**row["settings"], "seed": row["seed"], "status": row["status"], **dict(numbers(row["summary"]))}
            for row in self.rows
        ]
        return pd.DataFrame(rows)

    def plot(self, *metrics: str) -> Figure:
        """Mean curves of every point with 95% intervals over seeds (default: every loss).

        Raises:
            UserError: matplotlib is not installed, or no history has such a metric.
        """
        from metaloop.plotting import bands, histories

        return bands(histories(grouped([self.run])), metrics)


class _Item(NamedTuple):
    parent: Path
    name: str
    composition: Experiment | Pipeline
    document: dict[str, Any]
    deadline: float | None


class _Ended(NamedTuple):
    """How a child ended; crosses processes."""

    status: str
    error: str | None = None
    stop: Exception | None = None
    """What ends the whole sweep."""
    warnings: tuple[str, ...] = ()


def _run_child(item: _Item) -> _Ended:
    """Run a child here; in a worker its warnings are handed to the parent, which prints them."""
    if not in_worker():
        return _ended(item)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        ended = _ended(item)
    return ended._replace(warnings=tuple(dict.fromkeys(str(warning.message) for warning in caught)))


def _ended(item: _Item) -> _Ended:
    left = None if item.deadline is None else item.deadline - time.time()
    if left is not None and left <= 0:
        return _Ended("stopped")
    try:
        seed = item.composition.seed
        run = Run(item.parent).child(item.name, item.document, kind=str(item.document["component"]), seed=seed)
        item.composition.run(run=run, max_seconds=left, quiet=True)
    except KeyboardInterrupt:
        return _Ended("interrupted")
    except UserError as error:
        return _Ended("failed", stop=UserError(f"{item.name}: {error}"))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _Ended("failed", reason(error), OSError(error.errno, error.strerror) if full else None)
    except Exception as error:
        return _Ended("failed", reason(error))
    return _Ended(run.status)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON values."""
    return {path: to_jsonable_python(value, fallback=dict) for path, value in settings.items()}


def _document(child: Child) -> dict[str, Any]:
    return child.composition.model_dump(mode="json")


def _word(value: Any) -> str:
    """A value as a short part of a name."""
    if isinstance(value, Component):
        return value.component_id()
    if isinstance(value, Mapping):
        return " ".join(f"{name}:{_word(item)}" for name, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(_word, value))
    return str(value)
