"""What a run leaves behind, usable in Python straight away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metaloop import functional
from metaloop.errors import UserError
from metaloop.experiment import Experiment, Progress
from metaloop.learner import HasModule, Predicts
from metaloop.outcome import Episode
from metaloop.store import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """A run of an experiment: its final theta, its history and where it is stored."""

    experiment: Experiment
    run: Run
    progress: Progress

    @property
    def theta(self) -> Any:
        """The final meta-parameters."""
        return self.progress.theta

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Rows of metrics, as in `metrics.jsonl`."""
        return self.run.history()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The closing numbers."""
        return dict(self.run.result() or {})

    @property
    def predictor(self) -> Predictor:
        """The learner with its theta: `predictor.adapt(x, y)` gives a function of new inputs."""
        return Predictor(self.experiment, self.theta)

    def module(self) -> nn.Module:
        """theta inside an `nn.Module` of its own, where theta belongs to one.

        Raises:
            UserError: the learner's theta is not a module's parameters.
        """
        learner = self.experiment.learner
        if not isinstance(learner, HasModule):
            raise UserError(f"{type(learner).__name__}'s theta is not the parameters of an nn.Module")
        return functional.filled(learner.module_for(self.experiment.tasks.spec), self.theta)

    def to_dataframe(self) -> pd.DataFrame:
        """The history as a pandas DataFrame, one row per logged step.

        Raises:
            UserError: pandas is not installed.
        """
        pandas = _pandas("to_dataframe")
        rows: pd.DataFrame = pandas.DataFrame(self.history, columns=None if self.history else ["step"])
        return rows.groupby("step", as_index=False).first()

    def table(self) -> pd.DataFrame:
        """How every task went, for an experiment without a meta-optimizer: `table` of its last step.

        Raises:
            UserError: pandas is not installed, or there are no lives to look at.
        """
        return table(self.experiment, self.progress)

    def plot(self, *metrics: str) -> Figure:
        """The history as curves (default: every loss).

        Raises:
            UserError: matplotlib is not installed, or the history has no such metric.
        """
        from metaloop.plotting import curves

        return curves({self.run.name: self.history}, metrics)


def table(experiment: Experiment, progress: Progress) -> pd.DataFrame:
    """How every task stands at this step of an experiment without a meta-optimizer, as a pandas DataFrame.

    One row per task, in the family's order: what the task is (`TaskFamily.columns`), then loss, fitness and metrics.
    Lives are evaluated where they are; nothing is fitted again, so a stored run's table costs one evaluation.

    Raises:
        UserError: pandas is not installed, there are no lives to look at, or a column has the name of a metric.
    """
    pandas = _pandas("table")
    if progress.carry is None:
        raise UserError(
            "table is for experiments without a meta-optimizer that have taken a step; "
            "with one, experiment.evaluate(result.theta) has a row per task"
        )
    theta, (draw, state, clock, keys) = progress.theta, progress.carry
    with torch.no_grad(), experiment.scope():
        out = experiment.learner.measure(theta, state, draw.tasks, clock, keys)
    columns = experiment.tasks.columns(draw.tasks)
    outcomes = {"loss": out.loss, "fitness": out.fitness, **out.metrics}
    if both := columns.keys() & outcomes.keys():
        raise UserError(f"{type(experiment.tasks).__name__}.columns and the outcome both have {sorted(both)[0]!r}")
    rows: pd.DataFrame = pandas.DataFrame({**columns, **{name: value.tolist() for name, value in outcomes.items()}})
    return rows


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UserError(f"{what} needs pandas: pip install 'metaloop[frame]'") from error
    return pandas


@dataclass(frozen=True)
class Predictor:
    """A learner and its theta, for use on a person's own data."""

    experiment: Experiment
    theta: Any

    def adapt(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Adapted:
        """Learn from one task's examples.

        Args:
            x: inputs `[shot, *inputs]`.
            y: targets `[shot, outputs]`, or classes `[shot]` int64.
            seed: names the learner's own randomness.

        Raises:
            UserError: the learner does not predict.
        """
        learner = self.experiment.learner
        if not isinstance(learner, Predicts):
            raise UserError(f"{type(learner).__name__} does not predict at new inputs")
        keys = self.experiment.root.fold("predict", seed).split(1)
        with torch.no_grad(), self.experiment.scope():
            x, y = _batch_of_one(x, keys.device), _batch_of_one(y, keys.device)
            episode = Episode(x, y, x, y)
            _, state = learner.live(self.theta, episode, keys)
        return Adapted(self, state, keys)


@dataclass(frozen=True)
class Adapted:
    """A learner that has adapted to one task: a function of inputs."""

    predictor: Predictor
    state: Any
    keys: Any

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs `[n, outputs]` at inputs `[n, *inputs]`."""
        experiment = self.predictor.experiment
        learner = experiment.learner
        assert isinstance(learner, Predicts)
        with torch.no_grad(), experiment.scope():
            inputs = _batch_of_one(x, experiment.torch_device)
            return learner.predict(self.predictor.theta, self.state, inputs, self.keys.fold("predict"))[0]


def _batch_of_one(values: Tensor, device: torch.device) -> Tensor:
    """A person's data as the learner wants it: `[1, ...]`, in the experiment's precision."""
    dtype = torch.get_default_dtype() if values.is_floating_point() else None
    return values[None].to(device, dtype)


def load(run: Run | Path | str, experiment: Experiment | None = None) -> Result:
    """A stored run's result; `experiment` is needed only where its parts are not registered by a plugin.

    Raises:
        UnknownName: there is no such run.
        UserError: the run has no checkpoint, or is a pipeline (load one of its stages).
    """
    from metaloop.saving import load_progress

    run = run if isinstance(run, Run) else Run.open(run)
    if run.config.get("component") != "experiment":
        names = ", ".join(str(child.path) for child in run.children()) or "it has none yet"
        raise UserError(f"{run.id} is not a single experiment; load one of its parts: {names}")
    experiment = experiment or Experiment.model_validate(dict(run.config))
    progress = load_progress(run.folder("checkpoints"), experiment)
    if progress is None:
        raise UserError(f"{run.id} has no checkpoint yet: metaloop resume {run.id}")
    return Result(experiment, run, progress)
