"""The stage that follows the searches: one table of all of them, graphs beside the true one, scores over rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from matplotlib.figure import Figure
from metaloop import Context, Result, Stage, UserError
from pydantic import Field
from rich.table import Table

from metaloop_notears_topo import pictures
from metaloop_notears_topo.finder import Finder
from metaloop_notears_topo.graphs import arranged, topological
from metaloop_notears_topo.tables import WholeTable
from metaloop_notears_topo.topo import Search, Topo

if TYPE_CHECKING:
    import pandas as pd

MEANS = ("loss", "true_score", "gap", "shd", "tpr", "fdr", "edges", "start_score", "start_shd", "rounds", "scored")
SHOWN = {
    "loss": "Q",
    "gap": "above the true order's",
    "shd": "SHD",
    "start_score": "Q at the start",
    "start_shd": "SHD at the start",
    "rounds": "rounds",
    "seconds": "seconds",
}


class Recovery(Stage):
    """Tables of earlier searches in one; adjacency matrices of one data set; the score of every round."""

    searches: tuple[str, ...] = Field(
        min_length=1, description="earlier stages that found graphs, in the table's order"
    )
    drawn: tuple[str, ...] = Field(default=(), description="of these, whose graphs are drawn, on equal data; (): all")
    note: str = Field(default="", description="what the table's caption adds")

    @classmethod
    def example(cls) -> Self:
        """One earlier search."""
        return cls(searches=("topo",))

    def run(self, context: Context) -> Mapping[str, Any]:
        """Means over data sets of every search; all rows as CSV, two pictures."""
        import pandas as pd

        results = {name: earlier(context, name) for name in self.searches}
        rows = pd.concat([_labelled(name, result) for name, result in results.items()], ignore_index=True)
        context.artifact("table.csv", lambda path: rows.to_csv(path, index=False))
        drawn = {name: results[name] for name in self.drawn or self.searches}
        context.artifact("graphs.png", pictures.save(graphs(drawn)))
        if panels := _panels(results):
            context.artifact("scores.png", pictures.save(pictures.scores(panels)))
        known = [name for name in MEANS if name in rows]
        means = rows.groupby("search", sort=False)[known].mean()
        means["seconds"] = [float(result.summary.get("seconds") or 0.0) for result in results.values()]
        context.show(_table(means, rows.groupby("search", sort=False).size(), self.note))
        return {"searches": means.astype(object).where(means.notna(), None).to_dict("index"), "rows": len(rows)}


def earlier(context: Context, name: str) -> Result:
    """The result of an earlier search.

    Raises:
        UserError: there is no such search before this stage.
    """
    result = context.results.get(name)
    if not isinstance(result, Result) or not isinstance(result.experiment.learner, Finder):
        known = [key for key, value in context.results.items() if isinstance(value, Result)]
        raise UserError(f"{context.name}.searches: {name!r} found no graphs before this stage; there are: {known}")
    return result


def graphs(results: Mapping[str, Result]) -> Figure:
    """The first data set's graphs, as those found it that were given the same data; nodes in the true order."""
    first = next(iter(results.values()))
    tasks, family = first.progress.carry.draw.tasks, first.experiment.tasks
    known = not bool(tasks.weights[0].isnan().any())
    order = topological(tasks.weights[:1]) if known else torch.arange(tasks.x.shape[2], device=tasks.x.device)[None]
    found = {}
    for name, result in results.items():
        carry = result.progress.carry
        if carry.draw.tasks.x.shape == tasks.x.shape and torch.equal(carry.draw.tasks.x[0], tasks.x[0]):
            learner: Any = result.experiment.learner
            if isinstance(learner, Topo) and learner.start is not None:
                found[f"{type(learner.start).__name__}"] = arranged(carry.state.start[:1], order)[0]
            found[name] = arranged(learner.graph(carry.state)[:1], order)[0]
    names = family.names if isinstance(family, WholeTable) else None
    return pictures.recovered(found, arranged(tasks.weights[:1], order)[0] if known else None, names)


def _panels(results: Mapping[str, Result]) -> dict[str, dict[str, pictures.Curves]]:
    """Traces of the searches that swap, those of the same data in one panel."""
    panels: dict[str, dict[str, pictures.Curves]] = {}
    for name, result in results.items():
        if isinstance(result.experiment.learner, Topo):
            state: Search = result.progress.carry.state
            panels.setdefault(_data(result), {})[name] = pictures.Curves(state.trace, state.reference)
    return panels


def _data(result: Result) -> str:
    """What a search was given, in a few words."""
    family = result.experiment.tasks
    if isinstance(family, WholeTable):
        return family.source.rpartition("/")[2]
    fields = family.model_dump()
    scale = ", standardised" if fields.get("standardise") else ""
    return f"{fields.get('graph')}-{fields.get('degree')}, d = {fields.get('nodes')}, {fields.get('noise')}{scale}"


def _labelled(name: str, result: Result) -> pd.DataFrame:
    table = result.table()
    table.insert(0, "search", name)
    table.insert(1, "data", _data(result))
    return table


def _table(means: pd.DataFrame, sizes: pd.Series, note: str) -> Table:
    caption = (
        "Means over data sets. Q of NOTEARS and DAGMA is that of least squares on an order of their graph. " + note
    )
    table = Table(title="Scores and structure", caption=caption.strip())
    shown = {name: title for name, title in SHOWN.items() if name in means and means[name].notna().any()}
    table.add_column("")
    for title in ("data sets", *shown.values()):
        table.add_column(title, justify="right")
    for name, size, row in zip(means.index, sizes, means.to_dict("records"), strict=True):
        table.add_row(str(name), str(size), *(_cell(column, row[column]) for column in shown))
    return table


def _cell(column: str, value: float) -> str:
    if value != value:
        return ""
    return {"gap": f"{value:.3%}", "loss": f"{value:.3f}", "start_score": f"{value:.3f}"}.get(column, f"{value:.1f}")
