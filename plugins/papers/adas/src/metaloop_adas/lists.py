"""List functions: one or two steps that reorder, select, count or calculate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaloop_adas.domain import PAD, Flags, Ints
from metaloop_adas.rewriting import Batch, Rewriting, Step, inside, padded, taken

LENGTH = 12
SHAPE = (1, LENGTH)
LARGEST = 99
"""Numbers are from 0 to 99; a step that leaves this range is undefined."""
_J = np.arange(LENGTH)[None, None, :]

Row = NDArray[np.int64]


def _placed(index: Callable[[Ints], tuple[Ints, Ints]], batch: Batch) -> Batch:
    """Entries by position: `index` gives new lengths and the places to take, of lengths `[list, 1, 1]`."""
    length = batch.size[:, 1:, None]
    longer, columns = index(length)
    size = np.where(batch.size[:, :1] > 0, np.stack([np.ones(len(length), np.int64), longer[:, 0, 0]], 1), 0)
    everywhere = (len(length), *SHAPE)
    return taken(batch, size, np.zeros(everywhere, np.int64), np.broadcast_to(columns, everywhere))


def _kept(flags: Callable[[Row, Flags], Flags], batch: Batch) -> Batch:
    """The entries that are flagged, in their order; none left is undefined."""
    within = inside(batch.size, SHAPE)
    keep = flags(batch.cells.astype(np.int64), within) & within
    order = (~keep).argsort(2, kind="stable")
    size = np.stack([np.ones(len(keep), np.int64), keep.sum((1, 2))], 1)
    size = np.where((batch.size[:, :1] > 0) & (size[:, 1:] > 0), size, 0)
    return taken(batch, size, np.zeros_like(order), order)


def _ordered(sign: int, batch: Batch) -> Batch:
    within = inside(batch.size, SHAPE)
    order = np.where(within, sign * batch.cells.astype(np.int64), 1000).argsort(2, kind="stable")
    return taken(batch, batch.size, np.zeros_like(order), order)


def _calculated(formula: Callable[[Row, Flags], Row], batch: Batch) -> Batch:
    """New numbers at the same places."""
    within = inside(batch.size, SHAPE)
    values = np.where(within, formula(np.where(within, batch.cells, 0).astype(np.int64), within), 0)
    fits: Flags = np.all((values >= 0) & (values <= LARGEST), axis=(1, 2))
    cells = np.where(within & fits[:, None, None], values, PAD).astype(np.int8)
    return Batch(cells, np.where(fits[:, None], batch.size, 0))


def _first(x: Row, within: Flags) -> Flags:
    """The first occurrence of each number."""
    same = (x[:, 0, :, None] == x[:, 0, None, :]) & within[:, 0, None, :]
    earlier = same & (np.arange(LENGTH)[None, None, :] < np.arange(LENGTH)[None, :, None])
    flags: Flags = ~earlier.any(2)[:, None]
    return flags


def _single(x: Row, within: Flags) -> Flags:
    """The numbers that occur once."""
    same = (x[:, 0, :, None] == x[:, 0, None, :]) & within[:, 0, None, :]
    flags: Flags = (same.sum(2) == 1)[:, None]
    return flags


def _summary(number: Callable[[Row, Flags], Row], batch: Batch) -> Batch:
    """A list of one number."""
    within = inside(batch.size, SHAPE)
    value = number(np.where(within, batch.cells, 0).astype(np.int64), within)
    fits = (batch.size[:, 0] > 0) & (value >= 0) & (value <= LARGEST)
    size = np.where(fits[:, None], 1, 0) * np.ones((1, 2), np.int64)
    return Batch(np.where(inside(size, SHAPE), value[:, None, None], PAD).astype(np.int8), size)


def _max(x: Row, within: Flags) -> Row:
    highest: Row = np.where(within, x, -1).max(2, keepdims=True)
    return highest


def _min(x: Row, within: Flags) -> Row:
    lowest: Row = np.where(within, x, 1000).min(2, keepdims=True)
    return lowest


STEPS: dict[str, tuple[str, Step]] = {
    "reverse": ("order", partial(_placed, lambda n: (n, n - 1 - _J))),
    "sort": ("order", partial(_ordered, 1)),
    "sort_down": ("order", partial(_ordered, -1)),
    "rotate_left": ("order", partial(_placed, lambda n: (n, (_J + 1) % np.maximum(n, 1)))),
    "rotate_right": ("order", partial(_placed, lambda n: (n, (_J - 1) % np.maximum(n, 1)))),
    "twice": ("order", partial(_placed, lambda n: (2 * n, _J % np.maximum(n, 1)))),
    "stutter": ("order", partial(_placed, lambda n: (2 * n, _J // 2))),
    "and_back": ("order", partial(_placed, lambda n: (2 * n, np.minimum(_J, 2 * n - 1 - _J)))),
    "tail": ("selection", partial(_placed, lambda n: (n - 1, _J + 1))),
    "front": ("selection", partial(_placed, lambda n: (n - 1, _J))),
    "take_2": ("selection", partial(_placed, lambda n: (np.minimum(n, 2), _J))),
    "take_3": ("selection", partial(_placed, lambda n: (np.minimum(n, 3), _J))),
    "last_2": ("selection", partial(_placed, lambda n: (np.minimum(n, 2), np.maximum(n - 2, 0) + _J))),
    "every_other": ("selection", partial(_placed, lambda n: ((n + 1) // 2, 2 * _J))),
    "evens": ("selection", partial(_kept, lambda x, _: x % 2 == 0)),
    "odds": ("selection", partial(_kept, lambda x, _: x % 2 == 1)),
    "above_4": ("selection", partial(_kept, lambda x, _: x > 4)),
    "below_6": ("selection", partial(_kept, lambda x, _: x < 6)),
    "without_max": ("selection", partial(_kept, lambda x, within: x != _max(x, within))),
    "without_min": ("selection", partial(_kept, lambda x, within: x != _min(x, within))),
    "unique": ("counting", partial(_kept, _first)),
    "singles": ("counting", partial(_kept, _single)),
    "length": ("counting", partial(_summary, lambda x, within: within.sum((1, 2)))),
    "max": ("counting", partial(_summary, lambda x, within: _max(x, within)[:, 0, 0])),
    "sum": ("counting", partial(_summary, lambda x, _: x.sum((1, 2)))),
    "plus_1": ("arithmetic", partial(_calculated, lambda x, _: x + 1)),
    "plus_3": ("arithmetic", partial(_calculated, lambda x, _: x + 3)),
    "minus_1": ("arithmetic", partial(_calculated, lambda x, _: x - 1)),
    "double": ("arithmetic", partial(_calculated, lambda x, _: 2 * x)),
    "square": ("arithmetic", partial(_calculated, lambda x, _: x * x)),
    "half": ("arithmetic", partial(_calculated, lambda x, _: x // 2)),
    "running_sum": ("arithmetic", partial(_calculated, lambda x, _: x.cumsum(2))),
    "from_max": ("arithmetic", partial(_calculated, lambda x, within: _max(x, within) - x)),
    "plus_place": ("arithmetic", partial(_calculated, lambda x, _: x + _J)),
}


class Lists(Rewriting):
    """Lists of at most 12 numbers from 0 to 99."""

    name = "listfn"
    experts = ("order", "selection", "counting", "arithmetic")
    shape = SHAPE

    @cached_property
    def steps(self) -> dict[str, tuple[str, Step]]:
        """34 primitives."""
        return STEPS

    def inputs(self, rng: np.random.Generator, n: int) -> Batch:
        """3 to 6 digits, with repetitions."""
        size = np.stack([np.ones(n, np.int64), rng.integers(3, 7, n)], 1)
        cells = rng.integers(0, 10, (n, *SHAPE))
        return Batch(np.where(inside(size, SHAPE), cells, PAD).astype(np.int8), size)

    def value(self, cells: NDArray[np.int8], size: Ints) -> Any:
        """A list of numbers."""
        return cells[0, : size[1]].tolist()

    def batch(self, values: Sequence[Any]) -> Batch:
        """Lists as grids of one row."""
        return padded([[value] for value in values], SHAPE)
