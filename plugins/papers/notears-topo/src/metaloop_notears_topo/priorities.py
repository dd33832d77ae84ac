"""An order as meta-parameters, for optimizers that know nothing of graphs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from metaloop import Key, Outcome, Spec
from torch import Tensor

from metaloop_notears_topo.finder import Finder, judged, thresholded
from metaloop_notears_topo.model import LeastSquares
from metaloop_notears_topo.sem import DataSet, GraphSpec

_MODEL = LeastSquares()


class Priorities(Finder):
    """theta is a priority for each node, and its order is the nodes' (random keys, Bean 1994); Q is least squares'.

    So evolution strategies and genetic algorithms search over orders, on one data set or on several of one graph.
    """

    stackable: ClassVar[bool] = True
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "tensors"

    def init(self, spec: Spec, key: Key) -> dict[str, Tensor]:
        """Normal draws."""
        assert isinstance(spec, GraphSpec)
        return {"priority": key.normal(spec.nodes)}

    def begin(self, theta: dict[str, Any], tasks: DataSet, keys: Key) -> tuple[Tensor, Tensor]:
        """The order `[task, place]` and the covariance."""
        order = theta["priority"].argsort().expand(tasks.x.shape[0], -1)
        return order, _MODEL.begin(tasks.x, order, keys)

    def evaluate(self, theta: dict[str, Any], state: tuple[Tensor, Tensor], tasks: DataSet, keys: Key) -> Outcome:
        """Q, and how far the graph is from the true one."""
        order, fit = state
        score = _MODEL.score(fit, order)
        return judged(score, self.graph(state), tasks, torch.full_like(score, torch.nan), {})

    def graph(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """The weights at the order, without those below the threshold."""
        order, fit = state
        return thresholded(_MODEL.weights(fit, order), self.threshold)
