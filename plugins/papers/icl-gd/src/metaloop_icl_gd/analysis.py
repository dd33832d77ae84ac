"""A trained transformer beside gradient descent on the same tasks: losses in and out of its law, iterated, averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from metaloop import Episode, Key, tree
from metaloop.learner import AnyLearner
from metaloop_basics.tasks.regression import LinearRegression
from torch import Tensor

from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.regression import squared_error
from metaloop_icl_gd.step_sizes import best_step_sizes
from metaloop_icl_gd.transformer import LSATransformer

INPUT_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
WEIGHT_SCALES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
LAWS = ("normal", "exponential", "laplace")
NOISY_LABELS = (0, 2, 4, 6, 8)


class Model(NamedTuple):
    """A learner that predicts, with its theta."""

    learner: AnyLearner
    theta: Any

    def losses(self, tasks: Episode) -> Tensor:
        """The paper's loss of every task, `[task]`, whatever loss the learner reports."""
        keys = Key.of(0, tasks.support_x.device).split(tree.length(tasks))
        learner: Any = self.learner
        with torch.no_grad():
            _, state = learner.live(self.theta, tasks, keys)
            return squared_error(learner.predict(self.theta, state, tasks.query_x, keys), tasks).loss

    def loss(self, tasks: Episode) -> float:
        """The mean loss."""
        return float(self.losses(tasks).double().mean())


def zero(tasks: Episode) -> float:
    """The mean loss of predicting zero."""
    return float(squared_error(torch.zeros_like(tasks.query_y), tasks).loss.double().mean())


def best_descent(steps: int, tasks: Episode, *, whiten: bool, shared: bool = True) -> Model:
    """Gradient descent (or GD++) with the step sizes that are best on these tasks."""
    learner = GDPlusPlus(steps=steps, whiten=whiten, shared=shared, eta=0.5)
    return Model(learner, tree.to(best_step_sizes(learner, tasks), tasks.support_x.device))


class Sweep(NamedTuple):
    """Mean losses over a row of shifted laws."""

    at: list[float | str]
    losses: dict[str, list[float]]
    """By model."""


def shifted(models: Mapping[str, Model], tasks: LinearRegression, n: int, key: Key) -> dict[str, Sweep]:
    """Losses on `n` tasks of each shifted law, all models on the same tasks.

    Inputs and weights at other scales, inputs of other laws (divided by their context's Frobenius norm), and contexts
    in which some labels are replaced by noise.
    """
    scale, weight = tasks.input_scale, tasks.weight_scale
    rows: dict[str, list[tuple[float | str, LinearRegression]]] = {
        "input scale": [(a, tasks.but(input_scale=a * scale)) for a in INPUT_SCALES],
        "weight scale": [(a, tasks.but(weight_scale=a * weight)) for a in WEIGHT_SCALES],
        "input law": [(law, tasks.but(law=law, frobenius=True, input_scale=1.0)) for law in LAWS],
        "noisy labels": [
            (float(k), tasks.but(noise=1.0, noisy=k, replace=True)) for k in NOISY_LABELS if k <= tasks.shots
        ],
    }
    found = {}
    for name, families in rows.items():
        losses: dict[str, list[float]] = {model: [] for model in models}
        for _, family in families:
            episodes = family.sample({}, n, key.fold(name)).tasks
            for model, own in models.items():
                losses[model].append(own.loss(episodes))
        found[name] = Sweep([at for at, _ in families], losses)
    return found


def iterated(trained: Model, eta: float, tasks: Episode, counts: Sequence[int], damping: float = 0.75) -> Sweep:
    """Losses of a trained layer applied again and again, and of as many steps of gradient descent, both damped.

    The layer updates the target's coordinate alone, as gradient descent does.
    """
    assert isinstance(trained.learner, LSATransformer)
    losses: dict[str, list[float]] = {"trained": [], "gradient descent": []}
    for count in counts:
        layers = trained.learner.but(layers=count, damping=damping, y_only=True, reference=None)
        losses["trained"].append(Model(layers, trained.theta).loss(tasks))
        descent = GDPlusPlus(steps=count, whiten=False, eta=eta * damping)
        losses["gradient descent"].append(
            Model(descent, tree.to(descent.step_sizes(), tasks.support_x.device)).loss(tasks)
        )
    return Sweep(list(counts), losses)
