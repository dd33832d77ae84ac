"""An experiment: tasks, a learner and a meta-optimizer, and the loop that ties them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator

from metaloop.compiling import Compiled
from metaloop.component import Component
from metaloop.engine import Engine, Meter
from metaloop.errors import Incompatible, UserError
from metaloop.executors import AnyExecutor, InProcess
from metaloop.key import Key
from metaloop.learner import AnyLearner
from metaloop.meta_optimizer import AnyMetaOptimizer
from metaloop.objective import TaskObjective
from metaloop.outcome import Budget, Outcome
from metaloop.precision import default_dtype
from metaloop.ranks import here
from metaloop.tasks import AnyTaskFamily

if TYPE_CHECKING:
    from metaloop.result import Result
    from metaloop.store import Run

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class Progress(NamedTuple):
    """Where an experiment is: all but the outcome is its checkpoint."""

    step: int
    """Outer steps done (inner steps where there is no meta-optimizer)."""
    theta: Any
    meta: Any
    """The meta-optimizer's state."""
    family: Any
    """The task family's state."""
    carry: Any
    """Lives in progress; None with a meta-optimizer, which keeps its own."""
    spent: Budget
    outcome: Outcome | None = None
    """Of the last step, one row per task; None where nothing was evaluated."""


def usable_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one (a rank's own under `torchrun`), else the CPU.

    Raises:
        UserError: there is no such device here.
    """
    ranks = here()
    if ranks.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{ranks.local}"
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {name!r} can't be used here ({str(error).splitlines()[0]})") from error
    return device


class Experiment(Component):
    """One outer loop. Without a meta-optimizer it runs the learner's own loop, one inner step at a time."""

    name: str = Field("experiment", pattern=r"^[A-Za-z0-9][\w./-]*$", description="what runs are called")
    tasks: AnyTaskFamily = Field(description="where tasks come from")
    learner: AnyLearner = Field(description="the inner loop")
    meta_optimizer: AnyMetaOptimizer | None = Field(None, description="the outer loop; None: the learner's own")
    steps: int | None = Field(None, ge=0, description="outer steps; None without a meta-optimizer: the learner's steps")
    task_batch: int | None = Field(16, ge=1, description="tasks per outer step; None: all of a finite family")
    eval_tasks: int = Field(0, ge=0, description="tasks of each evaluation; 0: no evaluation")
    eval_on: AnyTaskFamily | None = Field(None, description="where evaluation tasks come from; None: `tasks`")
    eval_every: int | None = Field(None, ge=1, description="outer steps between evaluations; None: at the end only")
    log_every: int = Field(1, ge=1, description="outer steps between rows of metrics; the last step has one always")
    checkpoint_every: int | None = Field(None, ge=1, description="outer steps between checkpoints; None: 20 in a run")
    max_evaluations: int | None = Field(None, ge=1, description="stop once so many (theta, task) evaluations are spent")
    max_inner_steps: int | None = Field(None, ge=1, description="stop once so many inner steps are spent")
    seed: int = Field(0, ge=0, description="names every random draw of the run")
    device: str = Field("auto", description="`auto` takes CUDA where there is one; else a torch device")
    precision: Literal["float32", "float64", "bfloat16"] = Field(
        "float32", description="bfloat16: parameters in float32, arithmetic under autocast"
    )
    executor: AnyExecutor = Field(InProcess(), description="where object tasks run")
    compile: bool = Field(False, description="torch.compile the inner loop (slow first step, then faster)")
    task_chunk: int | None = Field(None, ge=1, description="tasks at a time in gradients, where memory is short")

    @classmethod
    def component_id(cls) -> str:
        """What run files call an experiment."""
        return "experiment"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse compositions that can't work, before any compute.

        Raises:
            Incompatible: with the reason.
        """
        self.learner.check(self.tasks.spec)
        if self.eval_on is not None:
            self.learner.check(self.eval_on.spec)
        if self.meta_optimizer is not None:
            self.meta_optimizer.check(self.learner)
            if self.steps is None:
                raise UserError("steps: say how many outer steps the meta-optimizer takes")
        size = self.tasks.size
        if self.task_batch is None and size is None:
            raise Incompatible("task_batch: None means all tasks, but this family has no end: give a number")
        if self.task_batch is not None and size is not None and self.task_batch > size:
            raise Incompatible(f"task_batch: asks for {self.task_batch} tasks of a family that has {size}")
        size = (self.eval_on or self.tasks).size
        if size is not None and self.eval_tasks > size:
            raise Incompatible(f"eval_tasks: asks for {self.eval_tasks} tasks of a family that has {size}")
        return self

    @property
    def total_steps(self) -> int:
        """Steps of the outer loop."""
        return (self.learner.steps or 1) if self.steps is None else self.steps

    @property
    def batch(self) -> int:
        """Tasks per outer step."""
        size = self.task_batch or self.tasks.size
        assert size is not None
        return size

    @property
    def checkpoint_interval(self) -> int:
        """Outer steps between checkpoints."""
        return self.checkpoint_every or max(1, self.total_steps // 20)

    @cached_property
    def torch_device(self) -> torch.device:
        """The device that `device` names.

        Raises:
            UserError: there is no such device here.
        """
        return usable_device(self.device)

    @cached_property
    def engine(self) -> Engine:
        """Runs the learner's lives; holds what was compiled."""
        return Engine(self.learner, self.executor, self.task_chunk, Compiled(self.compile))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The experiment's precision."""
        half = torch.autocast(self.torch_device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with default_dtype(_DTYPES[self.precision]), half:
            yield

    @cached_property
    def root(self) -> Key:
        """The key that all others come from."""
        return Key.of(self.seed, self.torch_device)

    def begin(self) -> Progress:
        """The start: first theta, meta-state and family state."""
        with self.scope():
            theta = self.learner.init(self.tasks.spec, self.root.fold("theta"))
            family = self.tasks.begin(self.root.fold("family"))
            meta = None
            if self.meta_optimizer is not None:
                meta = self.meta_optimizer.begin(theta, self.root.fold("meta"))
            return Progress(0, theta, meta, family, None, Budget())

    def advance(self, progress: Progress) -> Progress:
        """One outer step; without a meta-optimizer one inner step, evaluated when it is logged or a life ends."""
        step, theta, meta, family, carry, spent, _ = progress
        key = self.root.fold("step", step)
        meter = Meter(spent)
        outcome: Outcome | None
        with self.scope():
            objective: TaskObjective[Any] = TaskObjective(self.engine, self.tasks, family, self.batch, key, meter)
            if self.meta_optimizer is None:
                judge = self.logged(step + 1)
                outcome, carry = objective.carry_on(theta, carry, judge=judge, whole=self.task_batch is None)
            else:
                theta, meta, outcome = self.meta_optimizer.step(theta, meta, objective, key.fold("meta"))
            if outcome is not None:
                family = self.tasks.observe(family, objective.observed, outcome)
        return Progress(step + 1, theta, meta, family, carry, meter.spent, outcome)

    def evaluate(self, theta: Any, *, n: int | None = None, name: str = "eval") -> Outcome:
        """Whole lives under theta on `n` evaluation tasks (default `eval_tasks`); the same tasks at every call.

        They come from the family as it begins: what a curriculum has learned since does not move the yardstick.

        Args:
            theta: meta-parameters.
            n: number of tasks.
            name: another name gives other tasks.
        """
        source, key = self.eval_on or self.tasks, self.root.fold(name)
        with self.scope():
            state = source.begin(self.root.fold("family") if self.eval_on is None else key.fold("family"))
            return TaskObjective(self.engine, source, state, n or self.eval_tasks or self.batch, key)(theta)

    def logged(self, step: int) -> bool:
        """Whether outer step `step` has a row of metrics."""
        return step % self.log_every == 0 or step == self.total_steps

    def ended(self, progress: Progress) -> bool:
        """Whether there is nothing more to do."""
        return progress.step >= self.total_steps or self.out_of_budget(progress.spent)

    def out_of_budget(self, spent: Budget) -> bool:
        """Whether the evaluations or inner steps that the experiment may use are spent."""
        return (self.max_evaluations is not None and spent.evaluations >= self.max_evaluations) or (
            self.max_inner_steps is not None and spent.inner_steps >= self.max_inner_steps
        )

    def run(
        self,
        until: int | None = None,
        *,
        run: Run | None = None,
        root: Path | str | None = None,
        max_seconds: float | None = None,
        quiet: bool = False,
        hooks: Sequence[object] = (),
    ) -> Result:
        """Run to the end (or to step `until`): loads, advances, saves, reports.

        Args:
            until: stop after this outer step; the run can be resumed.
            run: an existing run to resume; None makes a new one.
            root: the folder for a new run; None: `METALOOP_RUNS`, else `runs` here.
            max_seconds: stop, resumably, once so much time has passed.
            quiet: no progress bar.
            hooks: objects with `metaloop.hooks.hookimpl` methods that listen to this run.

        Raises:
            DivergedError: the loss or theta is not finite; the last good checkpoint is kept.
            KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
        """
        from metaloop.loop import run_experiment

        return run_experiment(self, until, run, root, max_seconds, quiet, hooks)
