"""Runs a learner's lives: batched, chunked, compiled or spread, with or without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.func import grad, vmap

from metaloop import tree
from metaloop.compiling import Compiled
from metaloop.executors import AnyExecutor, InProcess
from metaloop.key import Key
from metaloop.learner import AnyLearner, PerObject, Rows, from_rows, to_rows
from metaloop.outcome import Budget, Carry, Measure, Outcome, as_float
from metaloop.ranks import split


@dataclass
class Meter:
    """Counts what is spent; shared by an objective and those made fresh from it."""

    spent: Budget = field(default_factory=Budget)

    def count(self, evaluations: int, inner_steps: int) -> None:
        """Add to what is spent."""
        self.spent = self.spent.plus(evaluations, inner_steps)


@dataclass(frozen=True)
class Engine:
    """How a learner's lives are run: built once per experiment, so that compiled functions last."""

    learner: AnyLearner
    executor: AnyExecutor = field(default_factory=InProcess)
    chunk: int | None = None
    """Tasks at a time in gradients, where memory is short."""
    compiled: Compiled = field(default_factory=Compiled)

    def __post_init__(self) -> None:
        """Build cached modules before anything is traced."""
        self.learner.warmed  # noqa: B018

    def live(self, theta: Any, tasks: Any, keys: Key) -> Outcome:
        """Whole lives without a graph: all have ended, whatever the learner says of them."""

        def part(tasks: Any, keys: Key) -> tuple[tuple[()], Rows, Any]:
            out = self._live(theta, tasks, keys)
            return (), to_rows(out), out.info

        _, rows, info = split(part, tasks, keys)
        return from_rows(rows)._replace(info=info)

    def _live(self, theta: Any, tasks: Any, keys: Key) -> Outcome:
        with torch.no_grad():
            if isinstance(self.learner, PerObject):
                spread = None if isinstance(self.executor, InProcess) else self.executor.map
                return self.learner.live(theta, tasks, keys, spread=spread)[0]
            longest = self.learner.longest(tasks)
            if not self.compiled.enabled:
                return self.learner.outcomes(theta, tasks, keys, longest)
            out: Outcome = self.compiled(self._outcome, "live")(theta, tasks, keys.data, longest)
            return out

    def _outcome(self, theta: Any, tasks: Any, keys: Tensor, longest: int) -> Outcome:
        return self.learner.outcomes(theta, tasks, Key(keys), longest)

    def _loss(self, theta: Any, tasks: Any, keys: Tensor, longest: int) -> tuple[Tensor, Rows]:
        rows = to_rows(self._outcome(theta, tasks, keys, longest))
        return rows[0].mean(), rows

    def _slope(self, theta: Any, tasks: Any, keys: Key) -> tuple[Any, Rows]:
        """Gradient and rows; not compiled, keys stay lazy."""
        longest = self.learner.longest(tasks)
        if self.compiled.enabled:
            run = self.compiled(grad(self._loss, has_aux=True), "grad")
            gradient, rows = run(theta, tasks, keys.data, longest)
            return gradient, tree.detach(rows)

        def loss(theta: Any) -> tuple[Tensor, Rows]:
            rows = to_rows(self.learner.outcomes(theta, tasks, keys, longest))
            return rows[0].mean(), rows

        return slope(loss, theta)

    def grad(self, theta: Any, tasks: Any, keys: Key) -> tuple[Any, Outcome]:
        """Gradient of the mean loss over tasks."""
        gradient, rows, _ = split(partial(self._chunked, theta), tasks, keys)
        return gradient, from_rows(rows)

    def _chunked(self, theta: Any, tasks: Any, keys: Key) -> tuple[Any, Rows, None]:
        n = tree.length(tasks)
        if self.chunk is None or self.chunk >= n:
            return *self._slope(theta, tasks, keys), None
        total, parts = None, []
        for start in range(0, n, self.chunk):
            rows_of = slice(start, min(start + self.chunk, n))
            gradient, rows = self._slope(theta, tree.index(tasks, rows_of), keys[rows_of])
            share = (rows_of.stop - start) / n
            if total is None:
                total = tree.tree_map(torch.zeros_like, gradient)
            total = tree.tree_map(partial(torch.add, alpha=share), total, gradient)
            parts.append(rows)
        return total, tree.concatenate(parts), None

    def many(self, thetas: Any, tasks: Any, keys: Key, each: bool, chunk: int | None) -> Outcome:
        """Stacked thetas on all tasks, or candidate i on task i."""

        longest = self.learner.longest(tasks)

        def everywhere(theta: Any, tasks: Any, keys: Tensor) -> Rows:
            return to_rows(self._outcome(theta, tasks, keys, longest))

        def alone(theta: Any, task: Any, key: Tensor) -> Rows:
            rows: Rows = first(everywhere(theta, batch_of_one(task), key[None]))
            return rows

        with torch.no_grad():
            over = vmap(alone if each else everywhere, in_dims=0 if each else (0, None, None), chunk_size=chunk)
            run = self.compiled(over, f"many {each} {chunk} {longest}")

            def part(thetas: Any, tasks: Any = tasks, keys: Tensor = keys.data) -> tuple[tuple[()], Rows, None]:
                return (), run(thetas, tasks, keys), None

            batch = (thetas, tasks, keys.data) if each else (thetas,)  # split by tasks, or by candidates
            _, rows, _ = split(part, *batch)
            return from_rows(rows)

    @overload
    def window(
        self, theta: Any, carry: Carry[Any, Any], k: int, measure: Measure, *, all_alive: bool = False
    ) -> tuple[Outcome, Carry[Any, Any]]: ...
    @overload
    def window(
        self, theta: Any, carry: Carry[Any, Any], k: int, measure: Literal["ended"], *, all_alive: bool = False
    ) -> tuple[Outcome | None, Carry[Any, Any]]: ...
    def window(
        self, theta: Any, carry: Carry[Any, Any], k: int, measure: str, *, all_alive: bool = False
    ) -> tuple[Outcome | None, Carry[Any, Any]]:
        """`k` inner steps of all lives, differentiable in theta.

        The outcome is the mean over evaluations after `each` step, that at the `end`, or None unless a life `ended`.
        `all_alive` says that no life ends before the last of the steps.
        """
        learner, (draw, state, clock, keys) = self.learner, carry
        seen: list[Rows] = []
        for i in range(k):
            state, clock = learner.carry_on(theta, state, draw.tasks, clock, keys, all_alive=all_alive)
            if measure == "each" and i < k - 1:
                seen.append(to_rows(learner.measure(theta, state, draw.tasks, clock, keys)))
        after = Carry(draw, state, clock, keys)
        ended = clock.step >= clock.lifetime
        if measure == "ended":
            here = (carry.clock.step < carry.clock.lifetime) | (carry.clock.lifetime == 0)
            if not bool((ended & here).any()):  # those that ended before have been evaluated
                return None, after
        last = learner.measure(theta, state, draw.tasks, clock, keys)
        rows = to_rows(last)
        if seen:
            rows = tree.tree_map(lambda *each: as_float(torch.stack(each)).mean(0), *seen, rows)
        if last.done is not None:  # a life may end early, by its learner's word
            clock = clock._replace(lifetime=torch.where(last.done, clock.step, clock.lifetime))
            ended, after = ended | last.done, after._replace(clock=clock)
        return Outcome(*rows, done=ended, info=last.info), after


def slope(
    loss: Callable[..., tuple[Tensor, Any]], theta: Mapping[str, Tensor], *args: Any
) -> tuple[dict[str, Tensor], Any]:
    """The gradient of `loss(theta, *args)[0]`, and the rest of what it gives, cut from the graph.

    `torch.func.grad` gives the same numbers, and takes 1.2 to 1.4 times as long; `torch.autograd.grad` first walks the
    whole graph for what leads to theta, a hundredth of a MAML step.
    """
    own = {name: leaf.detach().requires_grad_() for name, leaf in theta.items()}
    with torch.enable_grad():
        value, rest = loss(own, *args)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    gradient = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in own.items()}
    return gradient, tree.detach(rest)


def batch_of_one(row: Any) -> Any:
    """A row as a batch of length one."""
    return tree.map_tensors(lambda leaf: leaf[None], row)


def first(batch: Any) -> Any:
    """The only row of a batch of length one."""
    return tree.map_tensors(lambda leaf: leaf[0], batch)
