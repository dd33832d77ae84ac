"""Separate tokens for x and y: first copy, then descend (paper, section on building the tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from metaloop import Context, Stage, UserError
from metaloop_basics.tasks.regression import LinearRegression
from pydantic import Field
from rich.table import Table

from metaloop_icl_gd import pictures
from metaloop_icl_gd.analysis import Model, best_descent, zero
from metaloop_icl_gd.stages import GD, aligned
from metaloop_icl_gd.transformer import LSATransformer

COPIES = ("copy_own", "copy_next", "copy_others")


class CopyThenDescend(Stage):
    """Compare a transformer of separate tokens with one step of gradient descent; see when its first layer copies."""

    trained: str = Field(default="train", description="the earlier stage whose transformer is looked at")
    tasks: int = Field(default=10_000, ge=1, description="held-out tasks; as many others choose the step size")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Losses, alignment and copying over training, with a table and a picture."""
        result = context.earlier(self.trained)
        learner, family = result.experiment.learner, result.experiment.tasks
        if not (isinstance(learner, LSATransformer) and learner.tokens == "separate"):
            raise UserError(f"{context.name}: looks at an icl-gd/lsa learner with tokens=separate")
        if not isinstance(family, LinearRegression):
            raise UserError(f"{context.name}: looks at learners of basics/linear-regression tasks")
        trained = Model(learner, result.theta)
        with result.experiment.scope():
            tuning, held_out = (family.sample({}, self.tasks, context.key.fold(n)).tasks for n in ("tune", "judge"))
            descent = best_descent(1, tuning, whiten=False)
            losses = {"trained": trained.loss(held_out), GD: descent.loss(held_out), "zero": zero(held_out)}
            alike = aligned(trained, descent, held_out)
        rows = [row for row in result.history if "eval/copy_next" in row]
        context.artifact("copying.png", pictures.save(_picture(rows, losses)))
        table = Table(title=f"Separate tokens, {self.tasks} held-out tasks")
        for column in ("", "loss", "cosine of J"):
            table.add_column(column)
        for name, loss in losses.items():
            table.add_row(name, f"{loss:.4f}", f"{alike['cosine']:.3f}" if name == "trained" else "")
        context.show(table)
        last = {name: rows[-1][f"eval/{name}"] for name in COPIES} if rows else {}
        return {"losses": losses, "alignment": alike, "copying": last}


def _picture(rows: Sequence[Mapping[str, Any]], losses: Mapping[str, float]) -> Figure:
    """The loss beside one step of gradient descent's, and on what the first layer's outputs depend."""
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(losses[GD], color="#00798c", linewidth=3, label="one step of gradient descent")
    left.plot(steps, [row["eval/loss"] for row in rows], color="#d1495b", label="trained")
    for name, label in zip(COPIES, ("itself", "the next token", "each other token"), strict=True):
        right.plot(steps, [row[f"eval/{name}"] for row in rows], label=label)
    for axes, label in ((left, "loss on held-out tasks"), (right, "norm of derivative by")):
        axes.set_xlabel("training steps")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    return figure
