"""The small values that tasks, learners and meta-optimizers pass to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaloop.key import Key

Measure = Literal["each", "end"]
"""When lives in a window are evaluated: after each inner step (the mean counts), or at the window's end."""

Tasks = TypeVar("Tasks")
State = TypeVar("State")


class Episode(NamedTuple):
    """A batch of supervised tasks (or one, inside `PerTask`): the tasks of a `SupervisedSpec`."""

    support_x: Tensor
    """`[task, shot, *inputs]`."""
    support_y: Tensor
    """`[task, shot, outputs]` float, or `[task, shot]` int64 for classes."""
    query_x: Tensor
    """`[task, query, *inputs]`."""
    query_y: Tensor
    """As `support_y`."""


class Draw(NamedTuple, Generic[Tasks]):
    """What a task family hands out."""

    tasks: Tasks
    tag: Tensor | None = None
    """`[task, ...]`: the family's own note on each row (which level, which grid point); opaque to all others."""


class Clock(NamedTuple):
    """Where in its life each task's learner is."""

    step: Tensor
    """`[task]` int64, the inner step about to be taken."""
    lifetime: Tensor
    """`[task]` int64, inner steps in this task's life."""

    @property
    def fraction(self) -> Tensor:
        """`step / lifetime` in [0, 1], `[task]`."""
        return self.step / self.lifetime


class Outcome(NamedTuple):
    """How learners fared, one row per task."""

    loss: Tensor
    """`[task]`: what gradients descend; may be a surrogate."""
    fitness: Tensor
    """`[task]`: higher is better; what black-box methods climb and reports compare."""
    metrics: dict[str, Tensor]
    """`[task]` each."""
    done: Tensor | None = None
    """`[task]` bool: whose life ended at this evaluation."""
    info: Sequence[Any] | None = None
    """What tasks have to say in words (an exception's text, a transcript): JSON values, one per task."""

    @property
    def score(self) -> Tensor:
        """What a curriculum ranks by, `[task]`: `metrics["score"]`, else the loss."""
        return self.metrics.get("score", self.loss)

    def means(self) -> dict[str, Tensor]:
        """Scalars for reports: the mean over tasks of loss, fitness and every metric."""
        rows = {"loss": self.loss, "fitness": self.fitness, **self.metrics}
        return {name: as_float(value.detach()).mean() for name, value in rows.items()}


def as_float(values: Tensor) -> Tensor:
    """Flags and counts as numbers that can be averaged; in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def outcome(
    loss: Tensor | float | None = None,
    fitness: Tensor | float | None = None,
    metrics: Mapping[str, Tensor | float] | None = None,
    *,
    info: Sequence[Any] | None = None,
) -> Outcome:
    """Build an outcome from a loss, a fitness or both; the missing one is the negative of the other.

    Raises:
        TypeError: neither is given.
    """
    if loss is not None:
        loss = _tensor(loss)
        fitness = -loss.detach() if fitness is None else _tensor(fitness)
    elif fitness is not None:
        fitness = _tensor(fitness)
        loss = -fitness
    else:
        raise TypeError("an outcome needs a loss or a fitness")
    return Outcome(loss, fitness, {name: _tensor(value) for name, value in (metrics or {}).items()}, info=info)


def _tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.get_default_dtype())


class Carry(NamedTuple, Generic[Tasks, State]):
    """Lives in progress, kept from one outer step to the next; opaque to meta-optimizers."""

    draw: Draw[Tasks]
    state: State
    clock: Clock
    keys: Key
    """`[task]`: each life's own key, given at birth."""


class Budget(NamedTuple):
    """What has been spent so far, counted by the core so that methods are compared fairly."""

    evaluations: int = 0
    """Evaluations of one theta on one task."""
    inner_steps: int = 0
    """Inner steps, summed over tasks and candidates."""

    def plus(self, evaluations: int, inner_steps: int) -> Budget:
        """A new, larger budget."""
        return Budget(self.evaluations + evaluations, self.inner_steps + inner_steps)
