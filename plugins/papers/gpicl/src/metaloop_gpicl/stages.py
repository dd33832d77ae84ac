"""The stage that follows training: accuracy against examples in context, beside everything that can learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metaloop import Context, Result, Stage
from pydantic import Field
from rich.table import Table

from metaloop_gpicl import pictures
from metaloop_gpicl.analysis import (
    ELSEWHERE,
    Estimate,
    algorithm,
    curve,
    draw,
    elsewhere,
    few,
    improvement,
    plain,
    sizes_of,
    training_curve,
    unseen,
)
from metaloop_gpicl.peers import PEERS, Judge, Model

SLOW = ("logistic regression", "MLP from scratch")
"""Fitted one context at a time."""


class LearningCurves(Stage):
    """Trained learners and scikit-learn's on tasks from images and data sets that no learner has seen."""

    trained: tuple[str, ...] = Field(
        default=("gpicl",), min_length=1, description="earlier stages; the first one's tasks are judged on"
    )
    tasks: int = Field(default=500, ge=2, description="tasks of each kind")
    fitted: int = Field(default=60, ge=2, description="of these, on how many scikit-learn's classifiers are fitted")
    elsewhere: tuple[str, ...] = Field(default=ELSEWHERE, description="bundled data sets to judge on too")

    def run(self, context: Context) -> Mapping[str, Any]:
        """Curves, what kind of algorithm was learned, a closing table and pictures."""
        results = {name: context.earlier(name) for name in self.trained}
        first = results[self.trained[0]].experiment
        seen, new = plain(first.tasks), unseen(first.tasks)
        sizes, chance = sizes_of(new), 1 / new.ways
        judges: dict[str, Judge] = {name: Model(r.experiment.learner, r.theta) for name, r in results.items()} | PEERS
        families = {"unseen tasks": new} | {name: elsewhere(first.tasks, name) for name in self.elsewhere}
        curves: dict[str, dict[str, list[Estimate]]] = {}
        with first.scope():
            pairs = [(name, judge) for name in families for judge in judges]
            for name, judge in context.track(pairs, "judging"):
                tasks = draw(families[name], self.tasks, context.key.fold(name))
                tasks = few(tasks, self.fitted) if judge in SLOW else tasks
                curves.setdefault(name, {})[judge] = curve(judges[judge], tasks, sizes)
            known, other = (draw(family, self.tasks, context.key.fold("rule")) for family in (seen, new))
            learned = {
                name: algorithm(improvement(judges[name], known), improvement(judges[name], other), chance)
                for name in self.trained
            }
        figure = pictures.learning_curves(curves, sizes, chance)
        context.artifact(f"{context.name}.png", pictures.save(figure))
        self._training(context, results, chance)
        context.show(_table(curves, sizes[-1], learned[self.trained[0]]))
        return {
            "sizes": sizes,
            "learned": learned,
            "curves": {
                kind: {name: [at._asdict() for at in found] for name, found in rows.items()}
                for kind, rows in curves.items()
            },
        }

    def _training(self, context: Context, results: Mapping[str, Result], chance: float) -> None:
        """A picture of accuracy over training, where it was measured."""
        found = {name: training_curve(result) for name, result in results.items()}
        found = {name: line for name, line in found.items() if line[0]}
        if found:
            figure = pictures.lines(found, "training steps", "accuracy on unseen tasks", level=(chance, "chance"))
            context.artifact("training.png", pictures.save(figure))


def _table(curves: Mapping[str, Mapping[str, Sequence[Estimate]]], shots: int, learned: str) -> Table:
    """Accuracy with the whole context; the first row's learner is what the caption speaks of."""
    caption = f"95% intervals over tasks. What the first learner has learned (section 4's rule): {learned}."
    table = Table(title=f"Accuracy after {shots} examples in context", caption=caption)
    table.add_column("")
    for kind in curves:
        table.add_column(kind, justify="right")
    for name in next(iter(curves.values())):
        table.add_row(name, *(cell(rows[name][-1]) for rows in curves.values()))
    return table


def cell(at: Estimate) -> str:
    """A mean with its interval."""
    return f"{at.mean:.3f} [{at.low:.3f}, {at.high:.3f}]"
