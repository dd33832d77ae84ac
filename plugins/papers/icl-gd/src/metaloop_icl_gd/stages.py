"""The stage that follows training: how alike the transformer and gradient descent are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from metaloop import Context, Episode, Key, Result, Stage, UserError, tree
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.tasks.regression import LinearRegression
from pydantic import Field
from rich.table import Table

from metaloop_icl_gd import pictures
from metaloop_icl_gd.alignment import align
from metaloop_icl_gd.analysis import Model, best_descent, iterated, shifted, zero
from metaloop_icl_gd.attention import products
from metaloop_icl_gd.construction import construction, interpolate, normalised
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.transformer import LSATransformer

GD = "gradient descent"


class Alignment(Stage):
    """Compare a trained transformer with gradient descent on held-out linear regression (paper, section 3)."""

    trained: str = Field(default="train", description="the earlier stage whose transformer is compared")
    descent: str | None = Field(default=None, description="the stage that trained GD++; None: fitted to tasks")
    tasks: int = Field(default=10_000, ge=1, description="held-out tasks; as many others choose the step sizes")
    iterations: tuple[int, ...] = Field(
        default=(1, 2, 3, 5, 8, 12, 20, 30, 50), description="how often a single layer is applied in turn"
    )

    def run(self, context: Context) -> Mapping[str, Any]:
        """Losses, alignment and shifted laws, for a single layer its weights and iterations; a table and pictures."""
        result = context.earlier(self.trained)
        learner, family = result.experiment.learner, result.experiment.tasks
        if not (isinstance(learner, LSATransformer) and isinstance(family, LinearRegression)):
            raise UserError(f"{context.name}: compares an icl-gd/lsa learner on basics/linear-regression tasks")
        trained = Model(learner.but(reference=None), result.theta)
        with result.experiment.scope():
            tuning, held_out = (family.sample({}, self.tasks, context.key.fold(n)).tasks for n in ("tune", "judge"))
            references = self._references(context, learner, tuning)
            models = {"trained": trained, **references}
            found: dict[str, Any] = {}
            if _is_single(learner, family):
                models["interpolated"] = self._weights(context, trained, references[GD], family)
                found["iterated"] = self._iterate(context, trained, references[GD], held_out)
            sweeps = shifted(models, family, max(1, self.tasks // 4), context.key)
            losses = {name: model.loss(held_out) for name, model in models.items()}
            found |= {
                "losses": losses | {"zero": zero(held_out), "ridge": Model(Ridge(penalty=1e-6), {}).loss(held_out)},
                "alignment": {name: aligned(trained, model, held_out) for name, model in references.items()},
                "step sizes": {name: {k: v.tolist() for k, v in m.theta.items()} for name, m in references.items()},
                "shifted": {name: sweep._asdict() for name, sweep in sweeps.items()},
            }
            note = stalled(trained, references[GD], held_out)
        context.artifact(f"{context.name}/shifted.png", pictures.save(pictures.sweeps(sweeps)))
        self._training(context, result)
        context.show(_table(f"Linear regression, {self.tasks} held-out tasks", found))
        if note is not None:
            context.show(note)
        return found

    def _references(self, context: Context, learner: LSATransformer, tuning: Episode) -> dict[str, Model]:
        """Gradient descent of as many steps as layers, and for several layers GD++."""
        references = {GD: best_descent(learner.layers, tuning, whiten=False)}
        if self.descent is not None:
            references["GD++"] = _descent(context, self.descent)
        elif learner.layers > 1:
            references["GD++"] = best_descent(learner.layers, tuning, whiten=True, shared=learner.recurrent)
        return references

    def _weights(self, context: Context, trained: Model, descent: Model, family: LinearRegression) -> Model:
        """The layer between the trained one and the construction; a picture of both."""
        constructed = construction(family.inputs, eta=float(descent.theta["eta"]), device=context.device)
        figure = pictures.weights(normalised(trained.theta, family.inputs), products(constructed))
        context.artifact(f"{context.name}/weights.png", pictures.save(figure))
        return Model(trained.learner.but(key_size=None), interpolate(trained.theta, constructed, family.inputs))

    def _iterate(self, context: Context, trained: Model, descent: Model, tasks: Episode) -> dict[str, Any]:
        """The layer applied again and again beside gradient descent; a picture."""
        few = tree.index(tasks, slice(0, 1000))
        sweep = iterated(trained, float(descent.theta["eta"]), few, self.iterations)
        context.artifact(f"{context.name}/iterated.png", pictures.save(pictures.sweeps({"times applied": sweep})))
        return sweep._asdict()

    def _training(self, context: Context, result: Result) -> None:
        """A picture of how alignment grew, where it was measured."""
        reference = getattr(result.experiment.learner, "reference", None)
        if reference is not None and any("eval/reference_loss" in row for row in result.history):
            label = f"gradient descent, eta/N = {reference.eta:.3f}"
            figure = pictures.alignment_over_training(result.history, label)
            context.artifact(f"{context.name}/training.png", pictures.save(figure))


def _descent(context: Context, name: str) -> Model:
    result = context.earlier(name)
    if not isinstance(result.experiment.learner, GDPlusPlus):
        raise UserError(f"{context.name}.descent: stage {name!r} trained no icl-gd/gd-plus-plus")
    return Model(result.experiment.learner, result.theta)


def _is_single(learner: LSATransformer, family: LinearRegression) -> bool:
    """Whether it is the paper's single layer, whose weights are compared with the construction."""
    bare = learner.linear and learner.embedding is None
    return bare and learner.layers == learner.heads == family.outputs == 1


def aligned(model: Model, reference: Model, tasks: Episode) -> dict[str, float]:
    """`alignment.Alignment.means` of a model beside a reference."""
    keys = Key.of(0, tasks.support_x.device).split(tree.length(tasks))
    with torch.no_grad():
        return align(*model, *reference, tasks, keys).means()


def stalled(layer: Model, descent: Model, tasks: Episode) -> str | None:
    """What to say about training that has not come near gradient descent; None where it has."""
    ratio = layer.loss(tasks) / descent.loss(tasks)
    if ratio < 1.2:
        return None
    return (
        f"The trained loss is {ratio:.2f} times gradient descent's on the law that was trained on. Either training was "
        "too short, or it is at a solution of rank one, in which keys read y and values read x: some first weights "
        "lead there at small batches. Try another --seed, more steps or a larger task_batch."
    )


def _table(title: str, found: Mapping[str, Any]) -> Table:
    """Losses of all models, and how much the transformer is aligned with gradient descent."""
    table = Table(title=title)
    table.add_column("")
    for name in ("loss", "cosine of J", "|J - J'| / |J'|", "prediction difference"):
        table.add_column(name, justify="right")
    for name, loss in sorted(found["losses"].items(), key=lambda item: -item[1]):
        row = found["alignment"].get(name)
        cells = () if row is None else (row["cosine"], row["relative_difference"], row["prediction_difference"])
        table.add_row(name, f"{loss:.4f}", *(f"{cell:.3f}" for cell in cells))
    return table
