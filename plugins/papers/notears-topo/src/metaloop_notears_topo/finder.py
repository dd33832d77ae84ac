"""What all solvers share: they find a graph for every data set, and are judged in one way."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from metaloop import Incompatible, Key, Learner, Outcome, Spec
from pydantic import Field
from torch import Tensor

from metaloop_notears_topo.graphs import distance
from metaloop_notears_topo.model import LeastSquares
from metaloop_notears_topo.sem import DataSet, GraphSpec


@runtime_checkable
class FindsGraph(Protocol):
    """A learner with a graph for every task."""

    def graph(self, state: Any) -> Tensor:
        """Weights `[task, node, node]` without cycles, 0 where there is no edge."""
        ...


class Finder(Learner[dict[str, Any], DataSet, Any]):
    """A learner that finds graphs; there is nothing to meta-learn."""

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"

    threshold: float = Field(default=0.3, ge=0, description="weights below are no edges")

    def check(self, spec: Spec) -> None:
        """Accept tables whose graph is to be found.

        Raises:
            Incompatible: another kind of task, or too few rows.
        """
        name = type(self).__name__
        if not isinstance(spec, GraphSpec):
            raise Incompatible(f"{name} finds graphs in tables of observations, it can't use {type(spec).__name__}")
        if spec.rows <= spec.nodes:
            raise Incompatible(
                f"{name} needs more rows than columns, and there are {spec.rows} rows of {spec.nodes} columns"
            )

    def graph(self, state: Any) -> Tensor:
        """Weights without cycles."""
        raise NotImplementedError


def thresholded(weights: Tensor, threshold: float) -> Tensor:
    """The weights, with those below the threshold set to 0."""
    return torch.where(weights.abs() >= threshold, weights, 0.0)


def judged(score: Tensor, graph: Tensor, tasks: DataSet, reference: Tensor, more: dict[str, Tensor]) -> Outcome:
    """The outcome of graphs: loss is the score Q; `gap` is how far it lies above the true order's, as a share of it."""
    found = distance(graph, tasks.weights)
    metrics = {
        "shd": found.shd,
        "tpr": found.tpr,
        "fdr": found.fdr,
        "edges": (graph != 0).sum((1, 2)),
        "true_score": reference,
        "gap": score / reference - 1,
        **more,
    }
    dtype = torch.get_default_dtype()
    return Outcome(score.to(dtype), -score.to(dtype), {name: value.to(dtype) for name, value in metrics.items()})


def least_squares(tasks: DataSet, order: Tensor) -> Tensor:
    """Q of least squares in an order `[task, place]`: by it graphs of linear solvers are compared."""
    model = LeastSquares()
    return model.score(model.begin(tasks.x, order, Key.of(0)), order)
