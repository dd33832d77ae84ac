"""What learners of `Episode`s share: which specs they accept, and how outputs are judged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from metaloop.component import Component
from metaloop.errors import Incompatible
from metaloop.outcome import Outcome, outcome
from metaloop.specs import Spec, SupervisedSpec
from torch import Tensor, nn


def supervised(learner: Component, spec: Spec) -> SupervisedSpec:
    """The spec, if it is one of episodes with examples.

    Raises:
        Incompatible: it is not.
    """
    name = type(learner).__name__
    if not isinstance(spec, SupervisedSpec):
        raise Incompatible(f"{name} learns from episodes of examples (SupervisedSpec), not from {type(spec).__name__}")
    if spec.shots == 0:
        raise Incompatible(f"{name} learns from a support set, and these episodes have none (shots = 0)")
    return spec


def check_ways(learner: Component, ways: int | None, spec: SupervisedSpec) -> None:
    """Refuse episodes with another number of classes: their data does not say how many there are.

    Raises:
        Incompatible: naming the number to set.
    """
    if ways != spec.outputs:
        raise Incompatible(
            f"{type(learner).__name__} is set to {ways or 'no'} classes, these tasks have {spec.outputs}: "
            f"set learner.ways to {spec.outputs}"
        )


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """`[task]`: mean squared error, or mean cross-entropy where targets `[task, rows]` are classes."""
    if y.is_floating_point():
        return (outputs - y).square().mean((-2, -1))
    return -outputs.log_softmax(-1).gather(-1, y.unsqueeze(-1)).mean((-2, -1))


def slope(outputs: Tensor, y: Tensor) -> Tensor:
    """The gradient of each task's `loss` with respect to its outputs, `[task, rows, outputs]`."""
    rows, width = outputs.shape[-2:]
    if y.is_floating_point():
        return (outputs - y) * (2 / (rows * width))
    return (outputs.softmax(-1) - one_hot(y, width, outputs)) / rows


def one_hot(y: Tensor, classes: int, like: Tensor) -> Tensor:
    """Classes `[task, rows]` as indicators `[task, rows, classes]`, of the dtype of `like`."""
    return nn.functional.one_hot(y, classes).to(like.dtype)


def judged(outputs: Tensor, y: Tensor, metrics: Mapping[str, Tensor] | None = None) -> Outcome:
    """The outcome of outputs `[task, rows, outputs]`: the loss, and the accuracy where targets are classes."""
    found = dict(metrics or {})
    if not y.is_floating_point():
        with torch.no_grad():
            found["accuracy"] = (outputs.argmax(-1) == y).to(outputs.dtype).mean(-1)
    return outcome(loss(outputs, y), metrics=found)
