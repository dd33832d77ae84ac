"""The stage that follows training: the closing table and the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaloop import Context, Experiment, Result, Stage, UserError
from metaloop_basics.learners.ridge import Ridge
from pydantic import Field
from rich.table import Table


class TemplateCompare(Stage):
    """The trained learner, the same learner before training, and ridge regression on held-out tasks."""

    trained: str = Field(default="train", description="the earlier stage that trained the learner")
    tasks: int = Field(default=1000, ge=1, description="held-out tasks")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Mean squared errors; a table, and the training curve as a picture.

        Raises:
            UserError: there is no earlier stage of that name, or it is no experiment.
        """
        result = context.results.get(self.trained)
        if not isinstance(result, Result):
            raise UserError(f"{context.name}: needs an earlier stage {self.trained!r} that trains the learner")
        held_out = result.experiment.but(eval_tasks=self.tasks, name=context.name)
        losses = {
            "trained": _loss(held_out, result.theta),
            "before training": _loss(held_out, held_out.begin().theta),
            "ridge": _loss(held_out.but(learner=Ridge(penalty=1e-3), meta_optimizer=None, steps=None), {}),
        }
        context.artifact("training.png", lambda path: result.plot("loss").savefig(path))
        table = Table(title=f"Mean squared error on {self.tasks} held-out tasks")
        for column in ("learner", "error"):
            table.add_column(column)
        for name, loss in losses.items():
            table.add_row(name, f"{loss:.4f}")
        context.show(table)
        return {"losses": losses}


def _loss(experiment: Experiment, theta: Any) -> float:
    return float(experiment.evaluate(theta).loss.mean())
