"""What the plugin's learners share: episodes of regression seen as rows of numbers."""

from __future__ import annotations

import math

from metaloop import Episode, Incompatible, Outcome, Spec, SupervisedSpec
from metaloop.outcome import outcome
from torch import Tensor


def regression(learner: str, spec: Spec) -> SupervisedSpec:
    """The spec, if it is one of regression.

    Raises:
        Incompatible: it is not.
    """
    if not isinstance(spec, SupervisedSpec):
        raise Incompatible(f"{learner} learns from examples (SupervisedSpec), not from {type(spec).__name__}")
    if spec.target != "real":
        raise Incompatible(f"{learner} regresses on real targets, but these tasks have classes")
    return spec


def size_of(spec: SupervisedSpec) -> int:
    """Numbers in one input."""
    return math.prod(spec.inputs)


def rows(x: Tensor) -> Tensor:
    """Inputs `[task, n, *inputs]` as rows `[task, n, size]`."""
    return x.flatten(2) if x.ndim > 2 else x[..., None]


def squared_error(prediction: Tensor, tasks: Episode, metrics: dict[str, Tensor] | None = None) -> Outcome:
    """Half the squared error, summed over outputs and averaged over queries (the paper's loss)."""
    error = prediction - tasks.query_y
    return outcome(loss=0.5 * error.square().sum(-1).mean(-1), metrics=metrics)
