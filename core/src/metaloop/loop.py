"""Runs an experiment: loads, advances, saves, reports."""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from metaloop import disk, tree
from metaloop.errors import DivergedError, UserError
from metaloop.executors import in_worker
from metaloop.experiment import Experiment, Progress
from metaloop.hooks import Hooks, load_hooks
from metaloop.outcome import Outcome
from metaloop.ranks import Ranks, here
from metaloop.result import Result
from metaloop.saving import load_progress, save_progress, save_theta
from metaloop.show import Bar
from metaloop.store import THETA, Run, Status

ERROR = "error.txt"
"""Where in its folder a run that failed keeps the traceback."""
_FLUSH_SECONDS = 0.5
_FLUSH_ROWS = 2000


class Stopped(Exception):  # noqa: N818 (no error: the time is up)
    """Ends a pipeline early, between its steps; `Pipeline.run` catches it."""


def run_experiment(
    experiment: Experiment,
    until: int | None,
    run: Run | None,
    root: Path | str | None,
    max_seconds: float | None,
    quiet: bool,
    listeners: Sequence[object] | Hooks,
) -> Result:
    """What `Experiment.run` does; the arguments are its. Of several ranks the first writes and tells listeners."""
    ranks = here()
    with ranks.together():
        if ranks.size > 1 and experiment.meta_optimizer is None:
            raise UserError(f"{experiment.name} has no meta-optimizer, so no batch to split: run it without torchrun")
        experiment.torch_device  # noqa: B018 (a device that can't be used is refused before a run is made)
        begun = None
        if run is None:
            begun = experiment.begin()  # before the run is made, so that what can't begin leaves nothing behind
            ranks.agree()
            if ranks.leads:
                config = experiment.model_dump(mode="json")
                run = Run.create(config, name=experiment.name, root=root, seed=experiment.seed)
        run = shared(run, ranks)
        with run.lock() if ranks.leads else nullcontext():
            hooks = listeners if isinstance(listeners, Hooks) else load_hooks(listeners) if ranks.leads else Hooks()
            return _Loop(experiment, run, hooks, quiet or not ranks.leads, ranks).go(begun, until, max_seconds)


def shared(run: Run | None, ranks: Ranks) -> Run:
    """The run of rank 0, on every rank.

    Raises:
        UserError: a rank does not see its folder.
    """
    if ranks.size > 1:
        run = Run(Path(ranks.from_leader(str(run.path) if run else None)))
        if not (run.path / "run.json").is_file():
            raise UserError(f"there is no {run.path} here: torchrun's ranks need one file system for runs")
    assert run is not None
    return run


def started(run: Run, hooks: Hooks) -> None:
    """Note that a run is under way, and tell listeners."""
    run.set_status("running")
    (run.path / ERROR).unlink(missing_ok=True)
    hooks.run_started(run=run)


def broke(run: Run, hooks: Hooks, error: BaseException) -> None:
    """Note how a run broke, and tell listeners."""
    status, summary = note_end(run, error)
    hooks.run_ended(run=run, status=status, summary=summary)


def note_end(run: Run, error: BaseException) -> tuple[Status, dict[str, str]]:
    """Note that a run was interrupted, stopped or failed, and why, where the disk still takes it."""
    if isinstance(error, KeyboardInterrupt | Stopped):
        status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        with suppress(OSError):
            run.set_status(status)
        return status, {}
    summary = {"error": f"{type(error).__name__}: {error}"}
    with suppress(OSError):
        run.set_status("failed", **summary)
        disk.replace(run.path / ERROR, "".join(traceback.format_exception(error)).encode())
    return "failed", summary


@dataclass
class _Loop:
    experiment: Experiment
    run: Run
    hooks: Hooks
    quiet: bool
    ranks: Ranks
    rows: list[dict[str, Any]] = field(default_factory=list)
    last_flush: float = field(default_factory=time.monotonic)
    latest: dict[str, float] = field(default_factory=dict)
    """The last losses that were flushed, for the progress bar."""

    def go(self, begun: Progress | None, until: int | None, max_seconds: float | None) -> Result:
        experiment, run, start = self.experiment, self.run, time.monotonic()
        end = experiment.total_steps if until is None else min(until, experiment.total_steps)
        leads, summary = self.ranks.leads, {}
        if leads:
            started(run, self.hooks)
        try:
            stored = None if begun else load_progress(run.folder("checkpoints"), experiment)
            progress = stored or begun or experiment.begin()
            if not self.ranks.agrees(progress.step):
                raise UserError(f"ranks see other checkpoints of {run.path}: they need one file system for runs")
            if leads:
                run.cut(progress.step if stored else -1)
            with _Interrupts(self.ranks) as interrupts, Bar(experiment.name, end, progress.step, self.quiet) as bar:
                if stored is None and (end == 0 or experiment.ended(progress)):
                    self._save_start(progress)
                status, progress, first = self._advance(progress, end, start, max_seconds, interrupts, bar)
            if status == "interrupted":
                raise KeyboardInterrupt
            if leads:
                summary = self._summary(progress, time.monotonic() - start, first)
                save_theta(run.path / THETA, progress.theta)
                run.write_result(summary)
                run.set_status(status)
        except BaseException as error:
            if leads:
                broke(run, self.hooks, error)
            raise
        if leads:
            self.hooks.run_ended(run=run, status=status, summary=summary)
        return Result(experiment, run, progress)

    def _advance(
        self,
        progress: Progress,
        end: int,
        started: float,
        max_seconds: float | None,
        interrupts: _Interrupts,
        bar: Bar,
    ) -> tuple[Status, Progress, float | None]:
        """Step to the end, or until something stops it: (status, progress, seconds until the first step ended).

        A step's rows are written before its checkpoint, and a resumed run cuts off the rows behind the checkpoint: so
        every row is written once.
        """
        experiment, first, every = self.experiment, None, self.experiment.eval_every
        advance = self.ranks.splits(experiment.advance)
        while progress.step < end and not experiment.ended(progress):
            progress = advance(progress)
            step, ended = progress.step, experiment.ended(progress)
            if first is None:
                first = time.monotonic() - started
            if progress.outcome is not None and (ended or experiment.logged(step)):
                self._note(progress, progress.outcome)
            if experiment.eval_tasks and (ended or (every is not None and step % every == 0)):
                self._evaluate(progress)
            now = time.monotonic()
            asked, late, due = self.ranks.agree(
                interrupts.asked, max_seconds is not None and now - started > max_seconds, self._is_due(now)
            )
            if asked or late or step == end or ended or step % experiment.checkpoint_interval == 0:
                self._save(progress)
            elif due:
                self._flush()
            bar.at(step, self.latest)
            if (asked or late) and step < end and not ended:
                return "interrupted" if asked else "stopped", progress, first
        return "finished" if experiment.ended(progress) else "stopped", progress, first

    def _is_due(self, now: float) -> bool:
        return now - self.last_flush > _FLUSH_SECONDS or len(self.rows) >= _FLUSH_ROWS

    def _save_start(self, progress: Progress) -> None:
        """What is left of a run of no steps."""
        if self.experiment.eval_tasks and self.experiment.ended(progress):
            self._evaluate(progress)
        self._save(progress)

    def _note(self, progress: Progress, outcome: Outcome, prefix: str = "") -> None:
        """Remember a row; its values stay on the device until they are flushed."""
        means = {prefix + name: value for name, value in outcome.means().items()}
        spent = {} if prefix else progress.spent._asdict()
        self.rows.append({"step": progress.step, "time": time.time(), **means, **spent})

    def _evaluate(self, progress: Progress) -> None:
        outcome = self.ranks.splits(self.experiment.evaluate)(progress.theta)
        self._note(progress, outcome, "eval/")

    def _flush(self) -> None:
        """Write the rows; a loss that is not finite stops the run here, with the step where it first was so."""
        self.last_flush = time.monotonic()
        rows, self.rows = _on_host(self.rows), []
        bad = next((row for row in rows if not math.isfinite(row.get("loss", row.get("eval/loss", 0.0)))), None)
        if bad is not None:
            rows = [row for row in rows if row["step"] < bad["step"]]
        if rows and self.ranks.leads:
            self.latest = {name: value for row in rows for name, value in row.items() if name.endswith("loss")}
            self.run.log(rows)
            self.hooks.steps_ended(run=self.run, rows=rows)
        if bad is not None:
            self._diverged(bad["step"], "the loss")

    def _save(self, progress: Progress) -> None:
        self._flush()
        if not tree.all_finite(leaf for leaf in tree.leaves(progress.theta) if isinstance(leaf, Tensor)):
            self._diverged(progress.step, "theta")
        self.ranks.expect_same(leaf for leaf in tree.leaves(progress.theta) if isinstance(leaf, Tensor))
        if not self.ranks.leads:
            return
        self.run.sync()
        path = save_progress(self.run.folder("checkpoints"), progress)
        self.hooks.checkpoint_saved(run=self.run, step=progress.step, path=path)

    def _diverged(self, step: int, what: str) -> None:
        from metaloop import checkpoint

        kept = checkpoint.stored(self.run.folder("checkpoints"))
        raise DivergedError(step, what, str(kept[0]) if kept else None)

    def _summary(self, progress: Progress, seconds: float, first: float | None) -> dict[str, Any]:
        """The closing numbers: the last row of each metric, what was spent, and how fast it went."""
        last: dict[str, Any] = {}
        for row in self.run.history():
            last.update(row)
        summary = {name: value for name, value in last.items() if name not in ("step", "time")}
        summary |= {"steps": progress.step, "seconds": seconds, "first_step_seconds": first, **progress.spent._asdict()}
        if self.experiment.torch_device.type == "cuda":
            summary["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.experiment.torch_device)
        return summary


def _on_host(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with plain numbers: one transfer from the device for all of them."""
    tensors = [value for row in rows for value in row.values() if isinstance(value, Tensor)]
    if not tensors:
        return rows
    numbers: Iterator[float] = iter(torch.stack([t.double() for t in tensors]).tolist())
    return [
        {name: next(numbers) if isinstance(value, Tensor) else value for name, value in row.items()} for row in rows
    ]


class _Interrupts:
    """Turns the first Ctrl-C (or SIGTERM) into a request to stop after the current step; the second one is raised."""

    def __init__(self, ranks: Ranks) -> None:
        self.asked = False
        self.ranks = ranks
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if in_worker() and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # in an executor's worker Ctrl-C is for the parent
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.ranks.size > 1:  # torchrun hands a signal on, also where it has come to its ranks already
            if not self.asked and self.ranks.leads:
                warnings.warn("stopping after this step and a checkpoint", stacklevel=2)
            self.asked = True
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        warnings.warn("stopping after this step and a checkpoint (once more: at once)", stacklevel=2)
