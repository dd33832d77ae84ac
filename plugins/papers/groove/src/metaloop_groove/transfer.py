"""Rules that were meta-trained on grid worlds, in MinAtar's games (paper, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from metaloop import Context, Key, Stage, UserError
from metaloop.learner import AnyLearner
from metaloop_basics.models import Mlp
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_agent import Heads
from metaloop_rl.models import OrthogonalMlp
from pydantic import Field
from rich.table import Table

from metaloop_groove.a2c import A2C
from metaloop_groove.minatar import MinAtar

NETWORK = OrthogonalMlp(widths=(64, 64), head_gain=0.01)


class Transfer(Stage):
    """Agents from scratch in MinAtar under earlier stages' rules, beside A2C and agents that don't learn."""

    rules: tuple[str, ...] = Field(min_length=1, description="earlier stages that meta-trained a rule")
    games: tuple[str, ...] = Field(default=("Breakout", "Asterix"), description="MinAtar's games")
    seeds: int = Field(default=3, ge=1, description="agents in each game under each rule")
    updates: int = Field(default=500, ge=1, description="of an agent's life")
    workers: int = Field(default=16, ge=1, description="games side by side for each agent")
    episodes: int = Field(default=16, ge=1, description="whole episodes that an agent is judged by")
    model: Mlp = Field(default=NETWORK, description="the agents' networks (paper: 64, 64)")
    adam: float = Field(default=5e-4, gt=0, description="Adam's rate for them")

    @classmethod
    def example(cls) -> Self:
        """A few steps of one game."""
        return cls(rules=("groove",), games=("Breakout",), seeds=1, updates=1, workers=2, episodes=1)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Mean returns of whole episodes after each agent's life, and a table."""
        heads = Heads(model=self.model, adam=self.adam)
        common: dict[str, Any] = {"steps": self.updates, "workers": self.workers, "heads": heads}
        common |= {"episodes": self.episodes}
        players: dict[str, tuple[AnyLearner, Any]] = {}
        for name in self.rules:
            result = context.earlier(name)
            if not isinstance(result.experiment.learner, Lpg):
                raise UserError(f"{context.name}.rules: {name!r} meta-trained no rule of rl/lpg")
            players[name] = result.experiment.learner.but(**common), result.theta
        players["A2C"] = A2C(**common), {}
        players["not trained"] = A2C(**(common | {"steps": 0})), {}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in players}
        pairs = [(game, name) for game in self.games for name in players]
        for game, name in context.track(pairs, "games"):
            learner, theta = players[name]
            worlds = MinAtar(game=game).worlds(self.seeds)
            with torch.no_grad():
                keys = Key.of(context.seed).fold("transfer", game).split(self.seeds)
                found[name][game] = learner.live(theta, worlds, keys)[0].fitness.tolist()
        context.show(self._table(found))
        return found

    def _table(self, found: Mapping[str, Mapping[str, list[float]]]) -> Table:
        caption = f"{self.updates} updates of {self.workers} workers; mean and range over {self.seeds} agents."
        table = Table(title="MinAtar: return of whole episodes", caption=caption)
        table.add_column("")
        for game in self.games:
            table.add_column(game, justify="right")
        for name, rows in found.items():
            cells = (rows[game] for game in self.games)
            table.add_row(name, *(f"{sum(x) / len(x):.2f} [{min(x):.2f}, {max(x):.2f}]" for x in cells))
        return table
