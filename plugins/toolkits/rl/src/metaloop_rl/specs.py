"""Kinds of control tasks: environments that are functions over tensors, and Gymnasium's."""

from __future__ import annotations

from metaloop.specs import ControlSpec


class TensorControlSpec(ControlSpec):
    """Environments that are pure functions over tensors: the tasks are a batch of `Worlds`.

    Continuous actions are in [-1, 1] along each axis; the environment scales them to its own bounds.
    """

    states: int | None = None
    """Where an observation is a state's number (of shape `()`, int64): how many states there are."""


class GymControlSpec(ControlSpec):
    """Gymnasium environments: the tasks are a list of `GymTask`, opened by whoever acts in them.

    Continuous actions are in [-1, 1] along each axis; `GymCopies` scales them to the environment's own bounds.
    """
