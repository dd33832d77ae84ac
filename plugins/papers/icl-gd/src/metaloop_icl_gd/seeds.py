"""The same training from several seeds at once: one batched gradient per step instead of one per seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from metaloop import Episode, Experiment, Key, UserError, tree
from metaloop_basics.meta_optimizers.gradient import Gradient
from torch import Tensor
from torch.func import grad, vmap

Theta = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """Thetas after training, one per seed."""

    experiment: Experiment
    seeds: tuple[int, ...]
    theta: Theta
    """Leaves `[seed, ...]`."""
    curves: dict[str, Tensor] = field(default_factory=dict)
    """What was measured on the way, `[measurement, seed]`; `step` `[measurement]` says when."""

    def of(self, i: int) -> Theta:
        """The theta of the i-th seed."""
        return tree.index(self.theta, i)


def train(
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    every: int | None = None,
    measure: Callable[[Theta, int], dict[str, float]] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train as `Experiment.run` does, from every seed, with one vmapped gradient per step.

    Thetas are those of single runs up to rounding.

    Args:
        experiment: its meta-optimizer must be `basics/gradient`, and its tasks must not learn from outcomes.
        seeds: instead of the experiment's own.
        every: steps between measurements; they are also taken before the first step.
        measure: called with a seed's theta and the seed; returns numbers by name.
        on_progress: told the fraction done.

    Raises:
        UserError: the experiment has another meta-optimizer, or no number of steps.
    """
    meta, family = experiment.meta_optimizer, experiment.tasks
    if not isinstance(meta, Gradient) or experiment.steps is None:
        raise UserError("meta_optimizer: training several seeds at once is for basics/gradient")
    learner = experiment.learner
    learner.warmed  # noqa: B018 (builds cached modules)

    def loss(theta: Theta, tasks: Episode, keys: Tensor) -> tuple[Tensor, Tensor]:
        mean = learner.live(theta, tasks, Key(keys), learner.steps)[0].loss.mean()
        return mean, mean

    gradient_of = vmap(grad(loss, has_aux=True))
    rows: list[dict[str, list[float]]] = []
    with experiment.scope():
        roots = [experiment.but(seed=seed).root for seed in seeds]
        thetas: list[Theta] = [learner.init(family.spec, root.fold("theta")) for root in roots]
        states = [meta.begin(theta, root.fold("meta")) for theta, root in zip(thetas, roots, strict=True)]
        sources = [family.begin(root.fold("family")) for root in roots]
        for step in range(experiment.steps):
            if measure is not None and every is not None and step % every == 0:
                rows.append(_measured(measure, thetas, seeds))
            keys = [root.fold("step", step) for root in roots]
            tasks = tree.stack(
                [
                    family.sample(source, experiment.batch, key.fold("tasks")).tasks
                    for source, key in zip(sources, keys, strict=True)
                ]
            )
            lives = torch.stack([key.fold("lives").split(experiment.batch).data for key in keys])
            gradient, losses = gradient_of(tree.stack(thetas), tasks, lives)
            for i, (theta, state) in enumerate(zip(thetas, states, strict=True)):
                thetas[i], states[i] = meta.descend(theta, state, tree.index(gradient, i), losses[i])
            if on_progress is not None and step % 50 == 0:
                on_progress(step / experiment.steps)
        if measure is not None:
            rows.append(_measured(measure, thetas, seeds))
    curves = {name: torch.tensor([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    if rows:
        curves["step"] = torch.tensor([*range(0, experiment.steps, every or experiment.steps), experiment.steps])
    return Trained(experiment, tuple(seeds), tree.stack(thetas), curves)


def _measured(
    measure: Callable[[Theta, int], dict[str, float]], thetas: Sequence[Theta], seeds: Sequence[int]
) -> dict[str, list[float]]:
    found = [measure(theta, seed) for theta, seed in zip(thetas, seeds, strict=True)]
    return {name: [row[name] for row in found] for name in found[0]}


def evaluate(learner: Any, theta: Theta, tasks: Episode) -> Tensor:
    """Losses `[task]` of a learner that draws nothing, without a graph."""
    keys = Key.of(0, tasks.support_x.device).split(tree.length(tasks))
    with torch.no_grad():
        losses: Tensor = learner.live(theta, tasks, keys)[0].loss
    return losses
