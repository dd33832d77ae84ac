"""What kind of task something is: the ground on which compositions are accepted or refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Base of all specs: a frozen description, compared by `Learner.check`. Plugins add their own kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SupervisedSpec(Spec):
    """Episodes with a support set to learn from and a query set to be judged on (`metaloop.Episode`)."""

    inputs: tuple[int, ...]
    """Shape of one input, for example `(1,)` or `(1, 28, 28)`."""
    outputs: int
    """Width of one target (regression) or number of classes (classification)."""
    shots: int
    """Rows of the support set (over all classes)."""
    queries: int
    """Rows of the query set (over all classes)."""
    target: Literal["real", "class"] = "real"
    """`real`: targets `[rows, outputs]` float; `class`: targets `[rows]` int64 in `[0, outputs)`."""


class ControlSpec(Spec):
    """Environments to act in."""

    observation: tuple[int, ...]
    actions: int
    """Number of discrete actions, or width of a continuous action."""
    discrete: bool = True
    horizon: int | None = None
    """Steps of one episode at most; None where episodes have no bound."""


class ObjectiveSpec(Spec):
    """Functions to minimise."""

    dimension: int
    noisy: bool = False


class TextSpec(Spec):
    """Questions in words whose answers can be checked."""

    checkable: bool = True
    language: str = "en"
