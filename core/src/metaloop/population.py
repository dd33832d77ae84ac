"""Lives under candidates that can't be stacked: one candidate after the other, or spread over an executor's workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from metaloop import tree
from metaloop.engine import Engine
from metaloop.executors import InProcess
from metaloop.key import Key
from metaloop.learner import AnyLearner, PerObject, to_rows
from metaloop.outcome import Outcome
from metaloop.precision import default_dtype


def lives(engine: Engine, thetas: Any, tasks: Any, keys: Key, each: bool) -> Outcome:
    """All candidates on all tasks, rows `[candidate, task]`; with `each` candidate i on task i, rows `[task]`.

    Where lives are spread, an item is one life of object tasks, candidate by candidate, or a candidate's whole batch
    of others.
    """
    candidates = _unstacked(thetas)
    if not _spreads(engine, keys):
        if each:
            return _cat([engine.live(c, *_rows_of(tasks, keys, i)) for i, c in enumerate(candidates)])
        return _stack([engine.live(c, tasks, keys) for c in candidates])
    # Clones, because a view travels with all that it is a view of.
    share, keys = engine.executor.share, keys.to("cpu")
    shared = [share(tree.clone(theta)) for theta in candidates]
    by_task = each or isinstance(engine.learner, PerObject)
    split = [_rows_of(tasks, keys, i) for i in range(tree.length(tasks))] if by_task else [(tasks, keys)]
    parts = [share(tree.clone(part)) for part in split]
    items = list(zip(shared, parts, strict=True)) if each else list(itertools.product(shared, parts))
    life = partial(_live, engine.learner, torch.get_default_dtype())
    outcomes: dict[int, Outcome] = dict(engine.executor.map(life, items))
    found = [outcomes[i] for i in range(len(items))]
    if each:
        return _cat(found)
    if by_task:
        found = [_cat(found[i : i + len(parts)]) for i in range(0, len(found), len(parts))]
    return _stack(found)


def _spreads(engine: Engine, keys: Key) -> bool:
    """Batches on an accelerator, and compiled ones, are quickest where they are."""
    if isinstance(engine.executor, InProcess):
        return False
    return isinstance(engine.learner, PerObject) or (keys.device.type == "cpu" and not engine.compiled.enabled)


def _live(
    learner: AnyLearner, dtype: torch.dtype, item: tuple[Callable[[], Any], Callable[[], tuple[Any, Key]]]
) -> Outcome:
    """For workers: lives under one candidate, in the experiment's precision."""
    theta, part = item
    with default_dtype(dtype):
        return Engine(learner).live(theta(), *part())


def _unstacked(thetas: Any) -> Sequence[Any]:
    """Candidates one by one: a sequence as it is, a stacked dict row by row."""
    if isinstance(thetas, dict):
        return [tree.index(thetas, i) for i in range(tree.length(thetas))]
    candidates: Sequence[Any] = thetas
    return candidates


def _rows_of(tasks: Any, keys: Key, i: int) -> tuple[Any, Key]:
    return (tasks[i : i + 1] if isinstance(tasks, list) else tree.index(tasks, slice(i, i + 1))), keys[i : i + 1]


def _cat(outcomes: Sequence[Outcome]) -> Outcome:
    """One batch from batches of one."""
    loss, fitness, metrics = tree.concatenate([to_rows(out) for out in outcomes])
    infos = [row for out in outcomes for row in (out.info or [None])]
    return Outcome(loss, fitness, metrics, info=infos if any(out.info for out in outcomes) else None)


def _stack(outcomes: Sequence[Outcome]) -> Outcome:
    """Rows `[candidate, task]` from each candidate's batch."""
    loss, fitness, metrics = tree.stack([to_rows(out) for out in outcomes])
    info = [out.info for out in outcomes] if any(out.info for out in outcomes) else None
    return Outcome(loss, fitness, metrics, info=info)
