"""Stages that train one experiment in many variants: numbers of tasks, learners, interventions, formats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from metaloop import Context, Experiment, Stage, UserError
from metaloop.learner import AnyLearner
from metaloop_basics.meta_optimizers.gradient import Gradient
from pydantic import Field
from rich.table import Table

from metaloop_gpicl import pictures
from metaloop_gpicl.analysis import (
    ELSEWHERE,
    algorithm,
    draw,
    elsewhere,
    estimate,
    first,
    improvement,
    plain,
    plateau,
    sizes_of,
    training_curve,
    unseen,
)
from metaloop_gpicl.incontext import InContextLearner, parameters
from metaloop_gpicl.peers import Model, nearest
from metaloop_gpicl.projection import BiasedTasks, RandomProjectionTasks
from metaloop_gpicl.stages import cell
from metaloop_gpicl.transformer import InContextTransformer

EVERY = 20
"""Contexts up to this long are looked at after every example."""


def _small() -> Experiment:
    """A training of two steps, for examples."""
    tasks, learner = RandomProjectionTasks.example(), InContextTransformer.example()
    return Experiment(tasks=tasks, learner=learner, meta_optimizer=Gradient(), steps=2, task_batch=2)


class Transition(Stage):
    """From memorising to learning: what transformers of several widths learn from more and more tasks (section 4)."""

    base: Experiment = Field(description="the training; its number of tasks and width are varied")
    exponents: tuple[int, ...] = Field(default=(0, 3, 5, 7, 10, 14, 24), description="2 to this many tasks")
    widths: tuple[int, ...] = Field(default=(16, 64), description="widths of the transformer, MLPs four times as wide")
    tasks: int = Field(default=500, ge=2, description="tasks of each kind to judge on")
    elsewhere: str = Field(default=ELSEWHERE[0], description="the bundled data set to judge on too")

    @classmethod
    def example(cls) -> Self:
        """Of the smallest training."""
        return cls(base=_small(), exponents=(0, 2), widths=(8,), tasks=4, elsewhere="iris")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Accuracy on seen and unseen tasks and another data set, the kinds of algorithm, a table and a picture."""
        found: dict[str, dict[str, list[float]]] = {}
        kinds: dict[str, list[str]] = {}
        for width in self.widths:
            for exponent in self.exponents:
                experiment = self.variant(width, exponent)
                result = context.experiment(f"width-{width}-tasks-{exponent}", experiment)
                row, kind = self._judged(context, experiment, Model(experiment.learner, result.theta))
                kinds.setdefault(f"width {width}", []).append(kind)
                for name, value in row.items():
                    found.setdefault(f"width {width}", {}).setdefault(name, []).append(value)
        at = [2.0**exponent for exponent in self.exponents]
        chance = 1 / plain(self.base.tasks).ways
        figure = pictures.transition({w: {k: (at, v) for k, v in rows.items()} for w, rows in found.items()}, chance)
        context.artifact(f"{context.name}.png", pictures.save(figure))
        context.show(self._table(found, kinds))
        return {"exponents": list(self.exponents), "accuracy": found, "learned": kinds}

    def variant(self, width: int, exponent: int) -> Experiment:
        """The training at one width and number of tasks.

        Raises:
            UserError: it is not of a transformer on tasks by random projection.
        """
        learner, family = self.base.learner, self.base.tasks
        if not (isinstance(learner, InContextTransformer) and isinstance(family, RandomProjectionTasks)):
            raise UserError("base: must train a gpicl/transformer on gpicl/random-projection tasks")
        return self.base.but(
            learner=learner.but(width=width, feedforward=4 * width), tasks=family.but(n_tasks=2**exponent)
        )

    def _judged(self, context: Context, experiment: Experiment, judge: Model) -> tuple[dict[str, float], str]:
        seen, new = plain(experiment.tasks), unseen(experiment.tasks)
        with experiment.scope():
            known, other, far = (
                draw(family, self.tasks, context.key.fold(name))
                for name, family in (("seen", seen), ("new", new), ("far", elsewhere(seen, self.elsewhere)))
            )
            before, after = improvement(judge, known), improvement(judge, other)
            row = {"seen tasks": before.last, "unseen tasks": after.last, self.elsewhere: float(judge(far).mean())}
        return row, algorithm(before, after, 1 / seen.ways)

    def _table(self, found: Mapping[str, Mapping[str, Sequence[float]]], kinds: Mapping[str, Sequence[str]]) -> Table:
        table = Table("", "tasks", "seen tasks", "unseen tasks", self.elsewhere, "learned", title="Meta-training tasks")
        for width, rows in found.items():
            for i, exponent in enumerate(self.exponents):
                cells = (f"{values[i]:.3f}" for values in rows.values())
                table.add_row(width, f"2^{exponent}", *cells, kinds[width][i])
        return table


class Ladder(Stage):
    """State or parameters: learners of many sizes on the same tasks (section 4)."""

    base: Experiment = Field(description="the training; its learner is exchanged")
    learners: tuple[AnyLearner, ...] = Field(min_length=1, description="gpicl learners to train")
    tasks: int = Field(default=500, ge=2, description="unseen tasks to judge on")

    @classmethod
    def example(cls) -> Self:
        """Of the smallest training."""
        return cls(base=_small(), learners=(InContextTransformer.example(),), tasks=4)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Sizes and accuracies, a table and a picture."""
        new = unseen(self.base.tasks)
        rows: list[dict[str, Any]] = []
        with self.base.scope():
            tasks = draw(new, self.tasks, context.key.fold("judge"))
        for i, learner in enumerate(self.learners):
            if not isinstance(learner, InContextLearner):
                raise UserError(f"learners: {type(learner).__name__} is no learner of gpicl, so its state has no size")
            name = f"{type(learner).__name__} {learner.width}"
            result = context.experiment(f"{i}-{type(learner).__name__}-{learner.width}", self.base.but(learner=learner))
            with self.base.scope():
                at = estimate(Model(learner, result.theta)(tasks))
            sizes = {"state": learner.state_size(new.spec), "parameters": parameters(result.theta)}
            rows.append({"name": name, **sizes, "unseen": at._asdict()})
        figure = pictures.ladder(rows, 1 / new.ways)
        context.artifact(f"{context.name}.png", pictures.save(figure))
        table = Table("", "state", "parameters", "accuracy on unseen tasks", title="The ladder of state sizes")
        for row in sorted(rows, key=lambda row: row["unseen"]["mean"]):
            found = row["unseen"]
            table.add_row(row["name"], f"{row['state']}", f"{row['parameters']}", f"{found['mean']:.3f}")
        table.add_row("nearest neighbour", "", "", cell(estimate(nearest(tasks))))
        context.show(table)
        return {"rows": rows}


class Plateau(Stage):
    """What shortens the plateau before learning to learn: larger batches, biased tasks, a curriculum (section 4)."""

    base: Experiment = Field(description="the training; its tasks and batch are varied")
    larger: int = Field(default=2, ge=1, description="the larger batch, as a multiple of the base's")
    fraction: float = Field(default=0.9, ge=0, le=1, description="share of tasks with bias")
    below: float = Field(default=0.9, gt=0, lt=1, description="the plateau ends at this share of guessing's loss")

    @classmethod
    def example(cls) -> Self:
        """Of the smallest training."""
        return cls(base=_small())

    def run(self, context: Context) -> Mapping[str, Any]:
        """Steps until the plateau ended, a table and a picture."""
        ways = plain(self.base.tasks).ways
        level, found, curves = self.below * math.log(ways), {}, {}
        for name, experiment in self.variants().items():
            result = context.experiment(name.replace(" ", "-"), experiment)
            found[name] = plateau(result.history, level)
            curves[name] = training_curve(result, "eval/loss")
        figure = pictures.lines(
            curves, "training steps", "loss on unseen tasks", level=(math.log(ways), f"guessing, ln {ways}")
        )
        context.artifact(f"{context.name}.png", pictures.save(figure))
        table = Table("", f"steps until {self.below} ln {ways}", title="The plateau before learning to learn")
        for name, steps in found.items():
            table.add_row(name, f"more than {self.base.steps}" if steps is None else f"{steps}")
        context.show(table)
        return {"steps": found}

    def variants(self) -> dict[str, Experiment]:
        """The training and its interventions by name.

        Raises:
            UserError: its tasks are not by random projection.
        """
        family, batch = self.base.tasks, self.base.batch
        if not isinstance(family, RandomProjectionTasks):
            raise UserError("base: must train on gpicl/random-projection tasks, without bias")
        biased = BiasedTasks(tasks=family, fraction=self.fraction)
        return {
            "as it is": self.base,
            "larger batch": self.base.but(task_batch=self.larger * batch),
            "fixed labels": self.base.but(tasks=biased),
            "fixed labels until learned": self.base.but(tasks=biased.but(drop_below=self.below)),
            "fixed task": self.base.but(tasks=biased.but(fixed="task")),
        }


class Formats(Stage):
    """The paper's causal sequence beside the set format: accuracy over training and over places in the context."""

    causal: str = Field(default="causal", description="the earlier stage that trained the causal format")
    set: str = Field(default="set", description="the earlier stage that trained the set format")
    tasks: int = Field(default=2000, ge=2, description="unseen tasks to judge on")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Both formats' accuracies, a table and a picture."""
        results = {"causal": context.earlier(self.causal), "set": context.earlier(self.set)}
        new = unseen(results["causal"].experiment.tasks)
        places: dict[str, tuple[list[int], list[float]]] = {}
        with results["causal"].experiment.scope():
            tasks = draw(new, self.tasks, context.key.fold("judge"))
            for name, result in results.items():
                judge = Model(result.experiment.learner, result.theta)
                at = list(range(1, new.shots + 1)) if new.shots <= EVERY else sizes_of(new)
                places[name] = (at, [float(judge(first(tasks, n)).mean()) for n in at])
            neighbour = [float(nearest(first(tasks, n)).mean()) for n in places["causal"][0]]
        places["nearest neighbour"] = (places["causal"][0], neighbour)
        training = {name: training_curve(result) for name, result in results.items()}
        figure = pictures.formats(training, places, 1 / new.ways)
        context.artifact(f"{context.name}.png", pictures.save(figure))
        title = f"Accuracy after {new.shots} examples, {new.ways} classes, {self.tasks} unseen tasks"
        table = Table("", "accuracy", title=title)
        for name, (_, values) in places.items():
            table.add_row(name, f"{values[-1]:.3f}")
        context.show(table)
        return {"accuracy": {name: values for name, (_, values) in places.items()}}
