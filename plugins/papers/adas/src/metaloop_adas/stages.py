"""What follows a search: its agents on the test set, a table and the archive's tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from matplotlib.figure import Figure
from metaloop import Context, Result, Stage, UserError
from pydantic import Field
from rich.table import Table

from metaloop_adas import judging, tree
from metaloop_adas.archive import Entry, best, mean
from metaloop_adas.learner import AgentSystem
from metaloop_adas.search import ArchiveSearch


class Report(Stage):
    """Choose agents on validation, report them on the test set; draw the archive.

    The best hand-designed agent is chosen among those of the paper and the same with as many calls as the budget
    allows, on the validation set as the search's own.
    """

    search: str = Field(default="search", description="an earlier stage: a search by adas/search with eval_on")
    every: bool = Field(default=True, description="test all agents, to say how optimistic the best on the test is")

    @classmethod
    def example(cls) -> Self:
        """The chosen agents only."""
        return cls(every=False)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Accuracies, a table, the tree and the progress."""
        result = context.results.get(self.search)
        if not isinstance(result, Result) or not isinstance(result.experiment.meta_optimizer, ArchiveSearch):
            raise UserError(f"{context.name}: {self.search!r} is no earlier search by adas/search")
        experiment, archive = result.experiment, result.progress.meta["archive"]
        learner, test = experiment.learner, experiment.eval_on
        if test is None or test.size is None:
            raise UserError(f"{context.name}: {self.search!r} has no test set (eval_on)")
        assert isinstance(learner, AgentSystem)
        tasks, key = judging.whole(test, context.key.fold("test")), context.key.fold("lives")
        hand, validation = judging.best_of(
            learner, judging.hand_designed(learner.budget), result.progress.family["tasks"], context.key.fold("hand")
        )
        chosen = best(archive)
        rows = range(len(archive)) if self.every else [chosen]
        once = learner.but(repeats=1)
        tests = {i: judging.accuracy(once, archive[i]["agent"], tasks, key) for i in context.track(rows, "test")}
        lines = [
            (f"best hand-designed: {hand['name']}", validation, judging.accuracy(once, hand, tasks, key)),
            (f"best on validation: {archive[chosen]['agent']['name']}", mean(archive[chosen]), tests[chosen]),
        ]
        if self.every:
            lucky = max(tests, key=lambda i: tests[i])
            name = f"best on the test (optimistic): {archive[lucky]['agent']['name']}"
            lines.append((name, mean(archive[lucky]), tests[lucky]))
        model = type(learner.model).__name__
        page = tree.page(archive, f"Meta Agent Search: {experiment.name} ({model})", tests)
        context.artifact("archive.html", lambda path: path.write_text(page, encoding="utf-8"))
        context.artifact("progress.png", lambda path: _saved(_progress(archive), path))
        context.show(_table(lines, learner, model))
        return {
            "hand-designed": {"name": hand["name"], "validation": validation, "test": lines[0][2]},
            "found": {"name": archive[chosen]["agent"]["name"], "validation": lines[1][1], "test": lines[1][2]},
            "gain": lines[1][2] - lines[0][2],
            "optimism": max(tests.values()) - tests[chosen] if self.every else None,
            "archive": len(archive),
        }


def _table(lines: list[tuple[str, float, float]], learner: AgentSystem, model: str) -> Table:
    simulated = "a simulated solver" if model == "SimulatedSolver" else model
    table = Table(
        title="Accuracy, %", caption=f"{simulated}; at most {learner.budget} calls for a question, for all agents"
    )
    table.add_column("agent")
    for column in ("validation", "test"):
        table.add_column(column, justify="right")
    for name, validation, test in lines:
        table.add_row(name, f"{100 * validation:.1f}", f"{100 * test:.1f}")
    return table


def _progress(archive: list[Entry]) -> Figure:
    """The best validation accuracy so far, over generations, and every agent's (paper, figure 3)."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    generation = [entry["generation"] for entry in archive]
    accuracy = [100 * mean(entry) for entry in archive]
    low = [100 * (mean(entry) - min(entry["fitness"]["low"], mean(entry))) for entry in archive]
    high = [100 * (max(entry["fitness"]["high"], mean(entry)) - mean(entry)) for entry in archive]
    axes.errorbar(
        generation, accuracy, yerr=[low, high], fmt="o", markersize=4, alpha=0.5, label="agents, 95% interval"
    )
    at = range(max(generation) + 1)
    so_far = [max(a for a, g in zip(accuracy, generation, strict=True) if g <= k) for k in at]
    axes.step(at, so_far, where="post", label="best so far")
    axes.set_xlabel("generation (0: hand-designed)")
    axes.set_ylabel("validation accuracy, %")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    return figure


def _saved(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130)
