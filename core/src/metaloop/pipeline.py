"""Named stages, each an experiment or a function of the earlier results; a finished stage is not run again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import Field, field_validator, model_validator

from metaloop.component import Component, Options
from metaloop.errors import UserError
from metaloop.experiment import Experiment, usable_device
from metaloop.hooks import Hooks, load_hooks
from metaloop.loop import Stopped, broke, note_end, run_experiment, shared, started
from metaloop.ranks import Ranks, apart, here
from metaloop.result import Result, load
from metaloop.stage import Context, Stage
from metaloop.store import Run, Status

if TYPE_CHECKING:
    from rich.console import RenderableType


_NAME = re.compile(r"[A-Za-z0-9]([\w.-]{0,90}\w)?")  # a stage's folder is called by its name
_FREE = {"device", "executor", "compile", "task_chunk", "checkpoint_every"}
"""Settings under which an experiment stays the same."""


class FunctionStage(Stage):
    """A plain Python function as a stage; it can't be written to a run file."""

    function: Callable[[Context], Mapping[str, Any]] = Field(description="called with the stage's context")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Call the function."""
        return self.function(context)


class Stages(Options):
    """Stages by name, in order."""

    __slots__ = ()


def _stage(name: str, value: Any) -> Component:
    """An experiment or a stage from itself, a function, or its dump."""
    if isinstance(value, Experiment | Stage):
        return value
    if isinstance(value, Mapping):
        if value.get("component") == Experiment.component_id():
            return Experiment.model_validate(value)
        if value.get("component") == FunctionStage.component_id():
            raise UserError(f"stages.{name}: is a Python function: run the script that defines it")
        if "component" not in value:
            raise UserError(f"stages.{name}: must name its component")
        return Stage.model_validate(value)
    if callable(value) and not isinstance(value, type):
        return FunctionStage(function=value)
    what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise UserError(f"stages.{name}: must be an Experiment, a Stage or a function, not {what}")


class Pipeline(Component):
    """Named stages in order. Its seed and device hold for every stage."""

    name: str = Field("pipeline", pattern=r"^[A-Za-z0-9][\w./-]*$", description="what runs are called")
    stages: Stages = Field(description="experiments, stages or functions by name, in order")
    seed: int = Field(0, ge=0, description="names every random draw of the run")
    device: str = Field("auto", description="`auto` takes CUDA where there is one; else a torch device")

    @classmethod
    def component_id(cls) -> str:
        """What run files call a pipeline."""
        return "pipeline"

    @field_validator("stages", mode="before")
    @classmethod
    def _load_stages(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not value:
            raise ValueError("must map names to stages")
        for name in value:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise ValueError(f"{name!r} is no name for a stage: use letters, digits, '-', '_' and '.'")
        return Stages({name: _stage(name, stage) for name, stage in value.items()})

    @model_validator(mode="after")
    def _one_seed(self) -> Self:
        for name, stage in self.stages.items():
            if isinstance(stage, Experiment) and stage.seed not in (0, self.seed):
                raise UserError(f"stages.{name}.seed: a pipeline has one seed for all stages: set the pipeline's")
        return self

    @cached_property
    def torch_device(self) -> torch.device:
        """The device that `device` names.

        Raises:
            UserError: there is no such device here.
        """
        return usable_device(self.device)

    def run(
        self,
        *,
        run: Run | None = None,
        root: Path | str | None = None,
        max_seconds: float | None = None,
        quiet: bool = False,
        hooks: Sequence[object] = (),
    ) -> PipelineResult:
        """Run the stages that are not finished yet; arguments as for `Experiment.run`.

        Of torchrun's ranks all run the experiments; the first runs the other stages while the rest wait.
        """
        ranks = here()
        with ranks.together():
            return self._run(ranks, run, root, max_seconds, quiet, hooks)

    def _run(
        self,
        ranks: Ranks,
        run: Run | None,
        root: Path | str | None,
        max_seconds: float | None,
        quiet: bool,
        hooks: Sequence[object],
    ) -> PipelineResult:
        self.torch_device  # noqa: B018 (a device that can't be used is refused before a run is made)
        deadline = None if max_seconds is None else time.monotonic() + max_seconds
        parts: dict[str, Component] = {}
        for name, stage in self.stages.items():
            held = isinstance(stage, Experiment)
            parts[name] = stage.but(name=name, seed=self.seed, device=self.device) if held else stage
        ranks.agree()
        if run is None and ranks.leads:
            run = Run.create(self.model_dump(mode="json"), name=self.name, root=root, kind="pipeline", seed=self.seed)
        run = shared(run, ranks)
        with run.lock() if ranks.leads else nullcontext():
            listeners = load_hooks(hooks) if ranks.leads else Hooks()
            if ranks.leads:
                started(run, listeners)
            results: dict[str, Any] = {}
            closing: list[RenderableType] = []
            try:
                for name, stage in parts.items():
                    if isinstance(stage, Experiment):
                        results[name] = run_part(run, name, stage, listeners, quiet, deadline)
                        continue
                    assert isinstance(stage, Stage)
                    stopped = False
                    if ranks.leads:
                        part = run.child(name, stage.model_dump(mode="json"), kind="stage")
                        device, far = self.torch_device, dict(results)
                        context = Context(name, part, run, far, self.seed, device, listeners, quiet, closing, deadline)
                        try:
                            with apart():
                                _run_stage(stage, context)
                        except Stopped:
                            stopped = True
                    if any(ranks.agree(stopped)):
                        raise Stopped
                    results[name] = run.child(name, {}, kind="stage").result() or {}
                status: Status = "finished"
            except Stopped:
                status = "stopped"
            except BaseException as error:
                if ranks.leads:
                    broke(run, listeners, error)
                raise
            if ranks.leads:
                summary = {name: _summary(result) for name, result in results.items()}
                run.write_result(summary)
                run.set_status(status)
                listeners.run_ended(run=run, status=status, summary=summary)
        return PipelineResult(self, run, results, tuple(closing))


@dataclass(frozen=True)
class PipelineResult:
    """What a pipeline leaves behind."""

    pipeline: Pipeline
    run: Run
    results: Mapping[str, Any]
    """By stage: a `Result` for an experiment, the stored mapping for a stage."""
    closing: tuple[RenderableType, ...] = ()
    """What stages wanted printed at the end."""

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def summary(self) -> dict[str, Any]:
        """The closing numbers by stage."""
        return dict(self.run.result() or {})

    def __getitem__(self, name: str) -> Any:
        return self.results[name]


def run_part(
    parent: Run, name: str, experiment: Experiment, hooks: Hooks, quiet: bool, deadline: float | None = None
) -> Result:
    """Run an experiment as a part of another run: begun ones are resumed, finished ones loaded.

    Raises:
        Stopped: the deadline came first.
    """
    ranks, config = here(), experiment.model_dump(mode="json")
    own = parent.child(name, config, kind="experiment", seed=experiment.seed) if ranks.leads else None
    part = shared(own, ranks)
    _expect_same(part, {key: value for key, value in config.items() if key not in _FREE})
    if any(ranks.agree(ranks.leads and part.status == "finished")):
        return load(part, experiment)
    result = run_experiment(experiment, None, part, None, _seconds_left(deadline), quiet, hooks)
    if part.status == "stopped":
        raise Stopped
    return result


def _expect_same(part: Run, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a part, or to take its result, under settings that it was not begun with.

    Raises:
        UserError: with the first setting that differs.
    """
    if difference := _difference(part.config, config):
        raise UserError(f"{part.id} was begun with {difference}: start a new run, or give another name")


def _difference(before: Any, now: Any, path: str = "") -> str | None:
    """The first setting that both have and that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        pairs = (
            (key, _difference(before[key], now[key], f"{path}.{key}" if path else key)) for key in now if key in before
        )
        return next((found for _, found in pairs if found), None)
    return None if json.dumps(before) == json.dumps(now) else f"{path}={before!r}, and now it is {now!r}"


def _run_stage(stage: Stage, context: Context) -> None:
    """Store what a stage computes in its run; a finished one is not run again.

    Raises:
        UserError: it does not return a mapping of JSON values, or was begun with other settings.
    """
    part = context.run
    _expect_same(part, stage.model_dump(mode="json"))
    if part.status == "finished" and part.result() is not None:
        return
    _seconds_left(context.deadline)
    part.set_status("running")
    try:
        found = stage.run(context)
        if not isinstance(found, Mapping):
            raise UserError(f"stage {context.name!r} must return a mapping, not {type(found).__name__}")
        try:
            part.write_result(found)
        except (TypeError, ValueError) as error:
            raise UserError(f"what stage {context.name!r} returns can't be stored: {error}") from error
    except BaseException as error:
        note_end(part, error)
        raise
    part.set_status("finished")


def _seconds_left(deadline: float | None) -> float | None:
    """How long until the deadline; raises Stopped where it is over."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and any(here().agree(left <= 0)):
        raise Stopped
    return left


def _summary(result: Any) -> Any:
    return result.summary if isinstance(result, Result) else result
