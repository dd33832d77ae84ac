"""Nonlinear regression: gradient descent on top of a learned representation (paper, section on sine waves)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from metaloop import Context, Episode, Key, Stage, UserError, tree
from metaloop_basics.tasks.regression import Sinusoid
from pydantic import Field
from rich.table import Table
from torch import Tensor

from metaloop_icl_gd import pictures
from metaloop_icl_gd.analysis import Model, zero
from metaloop_icl_gd.stages import aligned


class Nonlinear(Stage):
    """Compare trained regressors of one target on held-out sine waves; the first is compared with the second."""

    trained: tuple[str, ...] = Field(
        default=("train", "descent"), min_length=2, description="the earlier stages whose learners are compared"
    )
    tasks: int = Field(default=10_000, ge=1, description="held-out tasks")
    shown: int = Field(default=4, ge=1, description="tasks in the picture")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Losses and how alike the first two are, with a table and a picture of what they predict."""
        results = {name: context.earlier(name) for name in self.trained}
        first = results[self.trained[0]].experiment
        family = first.tasks
        if not isinstance(family, Sinusoid):
            raise UserError(f"{context.name}: compares learners on basics/sinusoid tasks")
        models = {name: Model(result.experiment.learner, result.theta) for name, result in results.items()}
        with first.scope():
            held_out = family.sample({}, self.tasks, context.key.fold("judge")).tasks
            losses = {name: model.loss(held_out) for name, model in models.items()} | {"zero": zero(held_out)}
            alike = aligned(models[self.trained[0]], models[self.trained[1]], held_out)
            few = tree.index(held_out, slice(0, self.shown))
            figure = _functions(models, few, family.x_range)
        context.artifact("functions.png", pictures.save(figure))
        table = Table(title=f"Sine waves, {self.tasks} held-out tasks", caption=_alike(self.trained, alike))
        table.add_column("")
        table.add_column("loss", justify="right")
        for name, loss in sorted(losses.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{loss:.5f}")
        context.show(table)
        return {"losses": losses, "alignment": alike}


def _alike(names: tuple[str, ...], alike: Mapping[str, float]) -> str:
    return (
        f"{names[0]} beside {names[1]}: cosine of J {alike['cosine']:.3f}, "
        f"prediction difference {alike['prediction_difference']:.4f}"
    )


def _functions(models: Mapping[str, Model], tasks: Episode, span: tuple[float, float]) -> Figure:
    """What each model predicts over the range of inputs after it has seen a task's context."""
    x = torch.linspace(*span, 200, device=tasks.support_x.device)
    inputs = x[None, :, None].expand(len(tasks.support_x), -1, -1)
    predictions = {name: _predict(model, tasks, inputs) for name, model in models.items()}
    figure = Figure(figsize=(3.2 * len(inputs), 3.0), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, len(inputs), squeeze=False, sharey=True)[0]):
        for name, predicted in predictions.items():
            axes.plot(x.cpu(), predicted[i, :, 0].cpu(), label=name, linewidth=1.3)
        axes.plot(tasks.support_x[i].cpu(), tasks.support_y[i].cpu(), "k.", label="context")
        axes.set_xlabel("x")
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=7)
    return figure


def _predict(model: Model, tasks: Episode, inputs: Tensor) -> Tensor:
    keys = Key.of(0, inputs.device).split(tree.length(tasks))
    learner: Any = model.learner
    with torch.no_grad():
        _, state = learner.live(model.theta, tasks, keys)
        predicted: Tensor = learner.predict(model.theta, state, inputs, keys)
    return predicted
