"""Candidates that can't be stacked, spread by an executor: the numbers of one process, and little that travels."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
import torch
from metaloop import tree
from metaloop.executors import Executor, InProcess
from metaloop.testing.toys import Text

from .parts import Lone, objective, same, thetas_for

T = TypeVar("T")
SIZES: list[int] = []
"""Bytes of every item that was handed over."""
SHARED: dict[int, bytes] = {}


class Post(Executor):
    """Everything passes as bytes; a shared value passes once, and items hold its number."""

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        work = pickle.dumps(fn)
        for position, item in reversed(list(enumerate(items))):
            sent = pickle.dumps(item)
            SIZES.append(len(sent))
            yield position, pickle.loads(pickle.dumps(pickle.loads(work)(pickle.loads(sent))))

    def share(self, value: T) -> Callable[[], T]:
        SHARED[len(SHARED)] = pickle.dumps(value)
        return Slip(len(SHARED) - 1)


class Slip:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> Any:
        return pickle.loads(SHARED[self.number])


@pytest.fixture(autouse=True)
def _empty() -> None:
    SIZES.clear()
    SHARED.clear()


@pytest.mark.parametrize("each", [False, True])
def test_object_thetas_are_spread_by_candidate_and_task(each: bool) -> None:
    words = ["abc", "bca", "cab", "acb"]
    there = objective(Text(steps=3), 4, executor=Post()).many(words, each=each)
    assert len(SIZES) == (4 if each else 16)
    assert sum(b"bca" in data for data in SHARED.values()) == 1  # a candidate travels once, not once for every task
    assert max(SIZES) < 200
    here = objective(Text(steps=3), 4, executor=InProcess()).many(words, each=each)
    assert there.loss.shape == ((4,) if each else (4, 4))
    same((there.loss, there.fitness, there.metrics), (here.loss, here.fitness, here.metrics))
    assert there.info == here.info


@pytest.mark.parametrize("each", [False, True])
def test_tensor_thetas_that_cannot_be_stacked_are_spread_by_candidate(each: bool) -> None:
    thetas = tree.stack([thetas_for(Lone()) for _ in range(6)])
    thetas["start"] = thetas["start"] + torch.arange(6.0)[:, None]
    there = objective(Lone(), 6, executor=Post()).many(thetas, each=each)
    assert len(SIZES) == 6
    here = objective(Lone(), 6, executor=InProcess()).many(thetas, each=each)
    same((there.loss, there.fitness, there.metrics), (here.loss, here.fitness, here.metrics))


def test_a_candidate_travels_without_the_others() -> None:
    many, few = ({"start": torch.zeros(n, 2), "rate": torch.full((n,), 0.1)} for n in (2000, 2))
    sizes: list[int] = []
    for thetas in (few, many):
        SHARED.clear()
        objective(Lone(), 2, executor=Post()).many(thetas)
        sizes.append(max(map(len, SHARED.values())))
    assert sizes[1] == sizes[0]
