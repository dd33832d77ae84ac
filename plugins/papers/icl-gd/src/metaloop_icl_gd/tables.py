"""In-context regression on the rows of real tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from metaloop import Context, Episode, Experiment, Stage, UserError
from metaloop.claims.statistics import mean_interval
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_basics.tasks.table import TableEpisodes
from pydantic import Field, model_validator
from rich.table import Table
from torch import Tensor

from metaloop_icl_gd import pictures
from metaloop_icl_gd.analysis import Model, best_descent
from metaloop_icl_gd.regression import squared_error
from metaloop_icl_gd.stages import stalled
from metaloop_icl_gd.transformer import LSATransformer

PENALTIES = tuple(10.0 ** (k / 2) for k in range(-6, 7))
SD_OF_LAW = {"uniform": 1 / math.sqrt(12), "normal": 1.0, "exponential": 1.0, "laplace": math.sqrt(2)}


class Estimate(NamedTuple):
    """A mean over episodes and its 95% interval."""

    mean: float
    low: float
    high: float


class RealTables(Stage):
    """A trained layer on rows of real tables: contexts of random rows, scaled to the law that it was trained on.

    Compared are the layer, one step of gradient descent with the step size of the training law and with the table's
    own best one, ridge regression and predicting zero. A table of another width than the layer's gets a layer of its
    own, trained in the same way. Step size and penalty are chosen on one half of the rows, all are judged on the
    other. Errors are relative to the target's variance.
    """

    trained: str = Field(default="train", description="the earlier stage whose layer is used")
    bundled: tuple[str, ...] = Field(default=("diabetes",), description="tables that come with scikit-learn")
    files: tuple[str, ...] = Field(default=(), description="your own CSV or Parquet files of numeric columns")
    target: str | None = Field(default=None, description="the files' column to predict; None: the last one")
    episodes: int = Field(default=2000, ge=2, description="contexts per table; as many others choose step sizes")
    queries: int = Field(default=10, ge=1, description="rows predicted from each context")

    @model_validator(mode="after")
    def _files_can_be_used(self) -> Self:
        """Refuse a file that can't be used before anything is trained.

        Raises:
            DataError: with the file and what is wrong with it.
        """
        for source in (*self.bundled, *self.files):
            TableEpisodes(source=source, target=self._target(source), shots=1, queries=1, test_fraction=0.5).spec  # noqa: B018
        return self

    def run(self, context: Context) -> Mapping[str, Any]:
        """One row of errors per table and model, a table and a picture."""
        experiment = context.earlier(self.trained).experiment
        law = experiment.tasks
        if not (isinstance(law, LinearRegression) and isinstance(experiment.learner, LSATransformer)):
            raise UserError(f"{context.name}: needs an icl-gd/lsa learner trained on basics/linear-regression tasks")
        errors: dict[str, dict[str, Estimate]] = {}
        beside: dict[str, dict[str, Estimate]] = {}
        with experiment.scope():
            for source in context.track((*self.bundled, *self.files), "tables"):
                name = Path(source).stem
                losses = self._losses(context, source, law)
                scale = 2 / (self._tables(source, law, "test").target_std ** 2)  # the loss halves the squared error
                errors[name] = {model: _estimate(scale * value) for model, value in losses.items()}
                beside[name] = {
                    model: _estimate(scale * (value - losses["trained layer"]))
                    for model, value in losses.items()
                    if model != "trained layer"
                }
        context.artifact("tables.png", pictures.save(pictures.bars(errors, "squared error / variance of the target")))
        for name in errors:
            context.show(_table(name, self.episodes, errors[name], beside[name]))
        return {
            name: {
                "error": {model: e._asdict() for model, e in errors[name].items()},
                "minus trained layer": {model: e._asdict() for model, e in beside[name].items()},
            }
            for name in errors
        }

    def _losses(self, context: Context, source: str, law: LinearRegression) -> dict[str, Tensor]:
        """Each model's losses `[episode]` on the same contexts of the judged half's rows."""
        key = context.key.fold(source)
        tune, judge = (
            self._tables(source, law, split).sample({}, self.episodes, key.fold(split)).tasks
            for split in ("train", "test")
        )
        own_law = law.but(inputs=tune.support_x.shape[-1])
        synthetic = own_law.sample({}, self.episodes, key.fold("law")).tasks
        by_law = best_descent(1, synthetic, whiten=False)
        models = {
            "trained layer": self._layer(context, own_law, synthetic, by_law),
            "GD, trained law's step": by_law,
            "GD, table's best step": best_descent(1, tune, whiten=False),
            "ridge": min((Model(Ridge(penalty=p), {}) for p in PENALTIES), key=lambda model: model.loss(tune)),
        }
        zero = squared_error(torch.zeros_like(judge.query_y), judge).loss
        return {name: model.losses(judge) for name, model in models.items()} | {"zero": zero}

    def _layer(self, context: Context, law: LinearRegression, tasks: Episode, descent: Model) -> Model:
        """The trained layer, or for another width one that is trained here."""
        result = context.earlier(self.trained)
        if result.experiment.tasks != law:
            result = context.experiment(f"layer-{law.inputs}", for_width(result.experiment, law))
        layer = Model(result.experiment.learner, result.theta)
        if (note := stalled(layer, descent, tasks)) is not None:
            context.show(f"width {law.inputs}: {note}")
        return layer

    def _tables(self, source: str, law: LinearRegression, split: str) -> TableEpisodes:
        """A table's episodes, scaled to the training law."""
        input_std = law.input_scale * SD_OF_LAW[law.law]
        return TableEpisodes.model_validate(
            {
                "source": source,
                "target": self._target(source),
                "shots": law.shots,
                "queries": self.queries,
                "split": split,
                "test_fraction": 0.5,
                "input_std": input_std,
                "target_std": input_std * law.weight_scale * math.sqrt(self._width(source)),
            }
        )

    def _width(self, source: str) -> int:
        return TableEpisodes(source=source, target=self._target(source), shots=1, queries=1).spec.inputs[0]

    def _target(self, source: str) -> str | None:
        return None if source in self.bundled else self.target


def for_width(experiment: Experiment, law: LinearRegression) -> Experiment:
    """The same training on another law, without measurements on the way."""
    assert isinstance(experiment.learner, LSATransformer)
    learner = experiment.learner.but(reference=None, key_size=None)
    return experiment.but(tasks=law, eval_on=None, learner=learner)


def _estimate(values: Tensor) -> Estimate:
    found = values.double().cpu().numpy()
    if np.ptp(found) == 0:
        return Estimate(float(found[0]), float(found[0]), float(found[0]))
    bounds = mean_interval(found, resamples=999)
    return Estimate(float(found.mean()), float(bounds.low), float(bounds.high))


def _table(name: str, episodes: int, errors: Mapping[str, Estimate], beside: Mapping[str, Estimate]) -> Table:
    caption = "95% intervals over contexts; contexts share the table's rows. Second column: paired, minus the layer's."
    table = Table(title=f"{name}: squared error / variance of the target, {episodes} contexts", caption=caption)
    table.add_column("")
    table.add_column("error", justify="right")
    table.add_column("minus trained layer", justify="right")
    for model, estimate in errors.items():
        difference = beside.get(model)
        table.add_row(model, _cell(estimate), "" if difference is None else _cell(difference))
    return table


def _cell(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
