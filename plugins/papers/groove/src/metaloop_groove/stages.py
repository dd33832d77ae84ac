"""What follows meta-training: rules on levels that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from metaloop import Context, Result, Stage
from metaloop.tasks import AnyTaskFamily
from pydantic import Field
from rich.table import Table
from torch import Tensor

from metaloop_groove import pictures
from metaloop_groove.a2c import A2C
from metaloop_groove.heldout import BAR, HeldOut, held_out, returns


class Standing(Stage):
    """Rules of earlier stages on held-out levels, as shares of A2C's return (paper, Figure 4)."""

    rules: tuple[str, ...] = Field(min_length=1, description="earlier stages that meta-trained a rule")
    levels: AnyTaskFamily = Field(description="where held-out levels come from")
    n: int = Field(default=64, ge=2, description="held-out levels")
    a2c: A2C = Field(default_factory=A2C, description="who sets the scale")

    @classmethod
    def example(cls) -> Self:
        """A few levels."""
        from metaloop_rl.envs.grid import GridWorld
        from metaloop_rl.tasks import Environments

        grids = Environments(env=GridWorld.example().but(view="index"))
        return cls(rules=("groove",), levels=grids, n=2, a2c=A2C.example())

    def run(self, context: Context) -> Mapping[str, Any]:
        """Shares on each level, a table and two pictures."""
        results = {name: context.earlier(name) for name in self.rules}
        known = held_out(self.levels, self.n, self.a2c, context.key)
        found: dict[str, Tensor] = {}
        for name in context.track(results, "held-out levels"):
            own = results[name]
            with own.experiment.scope():
                found[name] = known.normalised(returns(own.experiment.learner, own.theta, known.levels, context.key))
        context.artifact("held-out.png", pictures.save(pictures.sorted_returns(found)))
        curves = {name: curve(result) for name, result in results.items()}
        context.artifact("training.png", pictures.save(pictures.training(curves)))
        context.show(_table(found, known))
        return {name: {"shares": shares.tolist(), **summary(shares)} for name, shares in found.items()}


def summary(shares: Tensor) -> dict[str, float]:
    """Means over all levels and over each half, and how many levels are lost."""
    order = shares.sort().values
    half = len(order) // 2
    return {
        "mean": float(order.mean()),
        "lower half": float(order[:half].mean()),
        "upper half": float(order[len(order) - half :].mean()),
        "below 75% of A2C": float((order < BAR).to(torch.get_default_dtype()).mean()),
    }


def curve(result: Result) -> tuple[list[float], list[float]]:
    """Meta-steps, and the mean return of the lives in progress."""
    rows = [row for row in result.history if "fitness" in row]
    return [row["step"] for row in rows], [row["fitness"] for row in rows]


def _table(found: Mapping[str, Tensor], known: HeldOut) -> Table:
    n = len(known.a2c)
    table = Table(title=f"{n} held-out levels, returns as shares of A2C's", caption="0: the random agent, 1: A2C")
    table.add_column("")
    for name in summary(known.a2c):
        table.add_column(name, justify="right")
    for name, shares in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in summary(shares).values()))
    return table
