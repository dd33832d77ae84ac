"""The stage that follows the grids: one table of all of them, curves over widths, and what one number explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from metaloop import Context, Result, Stage, UserError
from pydantic import Field
from rich.table import Table

from metaloop_double_descent import pictures
from metaloop_double_descent.curves import FACTORS, Collapse, Region, collapse, over_seeds, peaks, varied
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.network import TwoLayer
from metaloop_double_descent.perfect import PerfectNetwork

if TYPE_CHECKING:
    import pandas as pd


class DoubleDescent(Stage):
    """Tables of earlier grids in one, the test error over widths, and peak heights against training losses."""

    grids: tuple[str, ...] = Field(min_length=1, description="earlier stages whose peaks are looked at")
    curves: str | None = Field(default=None, description="the earlier stage whose curves are drawn; None: those of all")
    threshold: int = Field(ge=1, description="width at which the training data can just be fitted")
    low: float = Field(default=0.9, gt=0, description="of the threshold: the peak is looked for from here")
    high: float = Field(default=1.5, gt=0, description="to here")
    axis: str = Field(default="features / examples (p / n)", description="name of the horizontal axis")

    @classmethod
    def example(cls) -> Self:
        """One earlier grid."""
        return cls(grids=("curves",), threshold=20)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Heights, contrasts and training losses of every configuration; a table, a picture, all rows as CSV."""
        import pandas as pd

        rows = pd.concat([labelled(context, name) for name in self.grids], ignore_index=True)
        drawn = rows if self.curves is None else labelled(context, self.curves)
        whole = rows if self.curves is None else pd.concat([drawn, rows], ignore_index=True)
        context.artifact("table.csv", lambda path: whole.to_csv(path, index=False))
        region = Region(self.threshold, self.low, self.high)
        found = peaks(rows, region, by=("name", "factor", "seed"))
        measured = ("height", "contrast", "train_loss", "peak", "end")
        configurations = over_seeds(found, measured, by=("name", "factor"))
        context.artifact("double-descent.png", pictures.save(self._picture(drawn, configurations)))
        per_seed = [
            collapse(own["train_loss"].to_numpy(), own["height"].to_numpy(), list(own["factor"]))
            for _, own in found.groupby("seed")
            if own["factor"].nunique() > 1
        ]
        shared = Collapse(*(sum(part) / len(part) for part in zip(*per_seed, strict=True))) if per_seed else None
        context.show(_table(configurations, shared, rows["seed"].nunique()))
        return {
            "configurations": configurations.astype(object).where(configurations.notna(), None).to_dict("records"),
            "collapse": None if shared is None else shared._asdict(),
            "rows": len(whole),
        }

    def _picture(self, rows: pd.DataFrame, configurations: pd.DataFrame) -> Any:
        conditions = rows.iloc[:0]
        if "condition" in rows:
            kinds = rows.assign(name=rows.apply(_features, axis=1))
            conditions = over_seeds(kinds, ["condition"], ("name", "width"))
        curves = over_seeds(rows, ["loss", "train_loss"], ("name", "width"))
        return pictures.double_descent(curves, conditions, configurations, self.threshold, self.axis)


def labelled(context: Context, name: str) -> pd.DataFrame:
    """The rows of an earlier grid, with a name for each setting and the factor that it varies.

    Raises:
        UserError: there is no such grid before this stage.
    """
    result = context.results.get(name)
    if not isinstance(result, Result) or not isinstance(result.experiment.tasks, Widths):
        known = [key for key, value in context.results.items() if isinstance(value, Result)]
        raise UserError(f"{context.name}.grids: {name!r} is no grid before this stage; there are: {known or 'none'}")
    learner = result.experiment.learner
    table = result.table()
    found = [Factors.model_validate(row) for row in table[list(FACTORS)].to_dict("records")]
    table.insert(0, "name", [named(learner, factors) for factors in found])
    table.insert(1, "factor", [_optimizer(learner) or varied(factors.model_dump()) for factors in found])
    return table


def named(learner: Any, factors: Factors) -> str:
    """What a setting is called in tables and pictures."""
    parts = [_optimizer(learner) or ("exact" if factors.steps == float("inf") else "GD")]
    if isinstance(learner, FeatureDescent | FeatureAdam | TwoLayer) and not isinstance(learner, PerfectNetwork):
        parts.append(f"T={pictures.power(min(factors.steps, learner.steps))}")
    elif factors.steps != float("inf"):
        parts.append(f"T={pictures.power(factors.steps)}")
    plain = Factors()
    for field in ("lr", "scale", "start"):
        if getattr(factors, field) != getattr(plain, field):
            parts.append(f"{field}={getattr(factors, field):g}")
    parts += [
        text for field, text in (("standardise", "standardised"), ("centre", "centred")) if getattr(factors, field)
    ]
    return ", ".join(parts)


def _optimizer(learner: Any) -> str | None:
    """What a learner other than gradient descent in closed form is called."""
    if isinstance(learner, PerfectNetwork):
        return "L-BFGS"
    if isinstance(learner, FeatureAdam):
        return "Adam"
    if isinstance(learner, FeatureDescent):
        return "momentum" if learner.momentum else f"SGD, batch {learner.batch}" if learner.batch else "GD by steps"
    if isinstance(learner, TwoLayer):
        parts = [{"adam": "Adam", "sgd": "SGD", "momentum": "momentum"}[learner.optimizer]]
        parts += [f"batch {learner.batch}"] if learner.batch else []
        parts += [f"{learner.norm} norm"] if learner.norm != "none" else []
        return ", ".join(parts + (["NTK"] if learner.parametrisation == "ntk" else []))
    return None


def _features(row: Any) -> str:
    kinds = [text for field, text in (("standardise", "standardised inputs"), ("centre", "centred")) if row[field]]
    return ", ".join(kinds) or "raw"


def _table(configurations: pd.DataFrame, shared: Collapse | None, seeds: int) -> Table:
    caption = "Geometric means over seeds. height: largest test error near the threshold / at the largest width."
    if shared is not None:
        caption += (
            f" Over all {len(configurations)} configurations Spearman's rho of training error and height is "
            f"{shared.rank_correlation:.2f}; one falling curve explains {shared.explained:.0%} of the variance of log "
            f"height, {shared.left_out:.0%} where each factor is predicted from the others (means over seeds)."
        )
    table = Table(title=f"Double descent: {seeds} seeds", caption=caption)
    table.add_column("")
    for name in ("training error at the threshold", "height of the peak", "test error at the peak", "at the end"):
        table.add_column(name, justify="right")
    for row in configurations.sort_values("train_loss", ascending=False).itertuples():
        cells = (f"{row.train_loss:.2g}", f"{row.height:.2f}", f"{row.peak:.3g}", f"{row.end:.3g}")
        table.add_row(str(row.name).replace("$", "").replace("{", "").replace("}", ""), *cells)
    return table
