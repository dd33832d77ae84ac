"""Training steps of one linear self-attention layer at batches of 1024, beside attention over tokens written by hand.

The hand-written loop draws the same tasks, attends from every token to the context's as the paper writes it (batched
einsum) and takes the same Adam step with the same clipped gradient.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from common import arguments, compare, report
from metaloop.experiment import Experiment
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.seeds import train
from metaloop_icl_gd.transformer import LSATransformer
from torch import Tensor

BATCH = 1024
SEEDS = (0, 1, 2, 3, 4)


class ByHand:
    """The paper's loop in plain torch."""

    def __init__(self, experiment: Experiment) -> None:
        self.family, self.root, self.step = experiment.tasks, experiment.root, 0
        self.theta = {name: value.clone().requires_grad_() for name, value in experiment.begin().theta.items()}
        self.optimizer = torch.optim.Adam(self.theta.values(), lr=1e-3, betas=(0.9, 0.98))

    def predict(self, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Minus the query token's last coordinate after the layer, `[task]`."""
        weights: Any = {name: value[0, 0] for name, value in self.theta.items()}
        context = torch.cat([x, y], -1)
        tokens = torch.cat([context, torch.cat([query, torch.zeros_like(query[..., :1])], -1)], 1)
        queries = torch.einsum("tnw,kw->tnk", tokens, weights["query"])
        keys = torch.einsum("tmw,kw->tmk", context, weights["key"])
        values = torch.einsum("tmw,kw->tmk", context, weights["value"])
        moved = torch.einsum("tnk,tmk,tmv->tnv", queries, keys, values)
        return -(tokens + torch.einsum("tnv,wv->tnw", moved, weights["projection"]))[:, -1, -1]

    def __call__(self) -> None:
        x, y, query, target = self.family.sample({}, BATCH, self.root.fold("step", self.step).fold("tasks")).tasks
        loss = 0.5 * (self.predict(x, y, query) - target[:, 0, 0]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.theta.values(), 1e-3)
        self.optimizer.step()
        self.step += 1


class Advancing:
    """The same through the core."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.progress = experiment, experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "")
    experiment = Experiment(
        tasks=LinearRegression(inputs=10, shots=10, queries=1),
        learner=LSATransformer(),
        meta_optimizer=Gradient(lr=1e-3, options={"betas": (0.9, 0.98)}, clip=1e-3),
        steps=10**6,
        task_batch=BATCH,
        device="cpu",
    )
    ours, theirs = Advancing(experiment), ByHand(experiment)
    for _ in range(3):
        ours()
        theirs()
    difference = max(float((ours.progress.theta[n] - v.detach()).abs().max()) for n, v in theirs.theta.items())
    few = experiment.but(steps=4)
    one_by_one = [partial(train, few, (seed,)) for seed in SEEDS]
    rows = [
        compare("one layer", ("Experiment", ours), ("by hand", theirs), rounds=given.rounds, calls=(8, 8)),
        compare(
            "5 seeds, 4 steps",
            ("at once", lambda: train(few, SEEDS)),
            ("one by one", lambda: [run() for run in one_by_one]),
            rounds=given.rounds,
        ),
    ]
    facts = {
        "steps per second": 1e3 / rows[0].first_ms,
        "largest difference of theta after 3 steps": difference,
    }
    report("linear self-attention in context", rows, facts, given)


if __name__ == "__main__":
    main()
