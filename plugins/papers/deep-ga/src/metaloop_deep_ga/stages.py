"""What follows searches: where individuals ended in the maze, and how searches fared beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from metaloop import Context, Result, Stage, UserError
from metaloop_rl.tasks import Environments
from pydantic import Field
from rich.table import Table

from metaloop_deep_ga import pictures
from metaloop_deep_ga.ga import DeepGA
from metaloop_deep_ga.maze import SUCCESS, HardMaze
from metaloop_deep_ga.peers import actions_of


def search(context: Context, name: str) -> Result:
    """An earlier search by a `DeepGA`.

    Raises:
        UserError: there is none of that name.
    """
    result = context.results.get(name)
    if not isinstance(result, Result) or not isinstance(result.experiment.meta_optimizer, DeepGA):
        raise UserError(f"{context.name}: {name!r} is no earlier search by deep-ga/ga")
    return result


class Endings(Stage):
    """Draw where all individuals of earlier searches ended in the hard maze (paper, section on novelty search)."""

    searches: tuple[str, ...] = Field(min_length=1, description="earlier stages, with record=true")

    @classmethod
    def example(cls) -> Self:
        """One search."""
        return cls(searches=("novelty",))

    def run(self, context: Context) -> Mapping[str, Any]:
        """Distances to the goal, a table and two pictures."""
        maps, curves, found = {}, {}, {}
        for name in self.searches:
            result = search(context, name)
            seen = result.progress.meta["seen"]
            tasks = result.experiment.tasks
            if seen is None or not (isinstance(tasks, Environments) and isinstance(tasks.env, HardMaze)):
                raise UserError(f"{context.name}: {name!r} has recorded no endings in deep-ga/hard-maze (record=true)")
            env = tasks.env
            away = torch.hypot(seen[:, 0] - env.goal_x, seen[:, 1] - env.goal_y).cpu()
            best = away.cummin(0).values
            solved = (away < SUCCESS).nonzero()
            maps[name], curves[name] = seen.cpu(), best
            found[name] = {
                "distance": float(best[-1]),
                "evaluations": len(away),
                "evaluations until the goal": int(solved[0]) + 1 if len(solved) else None,
            }
        context.artifact("maze.png", pictures.save(pictures.endings(maps, env)))
        context.artifact("distance.png", pictures.save(pictures.distances(curves)))
        table = Table(title="Hard maze: least distance to the goal", caption=f"The goal is reached below {SUCCESS:g}.")
        for column in ("selection", "distance", "evaluations", "evaluations until the goal"):
            table.add_column(column, justify="left" if column == "selection" else "right")
        for name, row in found.items():
            until = row["evaluations until the goal"]
            table.add_row(
                name, f"{row['distance']:.1f}", str(row["evaluations"]), "never" if until is None else str(until)
            )
        context.show(table)
        return found


class Progress(Stage):
    """Test what earlier searches found on fresh episodes, and draw how it came about."""

    searches: tuple[str, ...] = Field(min_length=1, description="earlier stages")
    peers: tuple[str, ...] = Field(default=(), description="earlier stages with a test of another method")
    tests: int = Field(default=200, ge=1, description="fresh episodes of each test")

    @classmethod
    def example(cls) -> Self:
        """One search."""
        return cls(searches=("ga",), tests=2)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Means over the test's episodes with their standard errors, a table and a picture."""
        curves: dict[str, dict[str, list[float]]] = {}
        found: dict[str, dict[str, Any]] = {}
        for name in self.searches:
            result = search(context, name)
            fitness = result.experiment.evaluate(result.theta, n=self.tests, name="test").fitness
            rows = [row for row in result.history if "best_validation" in row]
            curves[name] = {
                key: [row[key] for row in rows] for key in ("step", "best_validation", "population/fitness")
            }
            actions = actions_of(result) if "length" in result.history[-1] else None
            found[name] = {
                **_mean(fitness.tolist()),
                "evaluations": result.progress.spent.evaluations,
                "actions": actions,
            }
        for name in self.peers:
            own = context.results[name]
            if own["test"] is not None:
                found[name] = {**_mean(own["tests"]), "evaluations": None, "actions": own["actions"]}
        tests = {name: row["test"] for name, row in found.items()}
        context.artifact("progress.png", pictures.save(pictures.progress(curves, tests)))
        table = Table(title=f"Mean return of {self.tests} fresh episodes")
        for column in ("", "return", "standard error", "evaluations", "actions"):
            table.add_column(column, justify="left" if not column else "right")
        for name, row in found.items():
            cells = (
                f"{row['test']:.1f}",
                f"{row['error']:.1f}",
                *(str(row.get(key) or "") for key in ("evaluations", "actions")),
            )
            table.add_row(name, *cells)
        context.show(table)
        return found


def _mean(values: list[float]) -> dict[str, float]:
    """Mean and standard error (0 of one value)."""
    each = torch.tensor(values, dtype=torch.float64)
    error = float(each.std() / len(each) ** 0.5) if len(each) > 1 else 0.0
    return {"test": float(each.mean()), "error": error}
