"""ARC-like grids: rotate, recolour, shift, tile, crop, fill, let fall, complete, sort; one or two steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaloop_adas.domain import PAD, Cells, Flags, Ints
from metaloop_adas.rewriting import Batch, Rewriting, Step, inside, padded, taken

SIDE = 6
"""Inputs have sides of 2 to 5, outputs of at most 6."""
SHAPE = (SIDE, SIDE)
COLOURS = 10
_I, _J = np.arange(SIDE)[:, None] + np.zeros((SIDE, SIDE), np.int64), np.arange(SIDE) + np.zeros((SIDE, SIDE), np.int64)

Source = Callable[[Ints, Ints], tuple[Ints, Ints, Ints, Ints]]
"""Of heights and widths `[grid, 1, 1]`: new heights and widths, and rows and columns `[grid, 6, 6]` to take."""


def _moved(source: Source, batch: Batch) -> Batch:
    h, w = batch.size[:, :1, None], batch.size[:, 1:, None]
    height, width, rows, columns = source(h, w)
    size = np.stack([np.broadcast_to(height, h.shape)[:, 0, 0], np.broadcast_to(width, w.shape)[:, 0, 0]], 1)
    everywhere = (len(h), *SHAPE)
    return taken(batch, size, np.broadcast_to(rows, everywhere), np.broadcast_to(columns, everywhere))


def _wrapped(a: Ints, n: Ints) -> Ints:
    wrapped: Ints = a % np.maximum(n, 1)
    return wrapped


MOVES: dict[str, Source] = {
    "rotate_90": lambda h, w: (w, h, h - 1 - _J, _I),
    "rotate_180": lambda h, w: (h, w, h - 1 - _I, w - 1 - _J),
    "rotate_270": lambda h, w: (w, h, _J, w - 1 - _I),
    "flip_up_down": lambda h, w: (h, w, h - 1 - _I, _J),
    "flip_left_right": lambda h, w: (h, w, _I, w - 1 - _J),
    "transpose": lambda h, w: (w, h, _J, _I),
    "shift_right": lambda h, w: (h, w, _I, _wrapped(_J - 1, w)),
    "shift_down": lambda h, w: (h, w, _wrapped(_I - 1, h), _J),
    "tile_right": lambda h, w: (h, 2 * w, _I, _wrapped(_J, w)),
    "tile_down": lambda h, w: (2 * h, w, _wrapped(_I, h), _J),
    "mirror_right": lambda h, w: (h, 2 * w, _I, np.minimum(_J, 2 * w - 1 - _J)),
    "scale_2": lambda h, w: (2 * h, 2 * w, _I // 2, _J // 2),
    "left_half": lambda h, w: (h, w // 2, _I, _J),
    "top_half": lambda h, w: (h // 2, w, _I, _J),
}


def _counts(batch: Batch) -> Ints:
    """How often each colour occurs, `[grid, colour]`; the background 0 not at all."""
    counts = np.stack([(batch.cells == c).sum((1, 2)) for c in range(COLOURS)], 1)
    counts[:, 0] = 0
    return counts


def _most(batch: Batch) -> Cells:
    """The most frequent colour, `[grid, 1, 1]`; the lower of two; 0 where there is none."""
    most: Cells = _counts(batch).argmax(1).astype(np.int8)[:, None, None]
    return most


def _least(batch: Batch) -> Cells:
    counts = _counts(batch)
    least: Cells = np.where(counts > 0, counts, SIDE * SIDE + 1).argmin(1).astype(np.int8)[:, None, None]
    return np.where(counts.max(1)[:, None, None] > 0, least, np.int8(0))


def _recoloured(change: Callable[[Batch], Cells], batch: Batch) -> Batch:
    return Batch(np.where(batch.cells == PAD, np.int8(PAD), change(batch)).astype(np.int8), batch.size)


def _most_to(colour: int, b: Batch) -> Cells:
    return np.where((b.cells == _most(b)) & (b.cells > 0), np.int8(colour), b.cells)


def _least_to(colour: int, b: Batch) -> Cells:
    return np.where((b.cells == _least(b)) & (b.cells > 0), np.int8(colour), b.cells)


def _swap(b: Batch) -> Cells:
    most, least = _most(b), _least(b)
    return np.where(b.cells == 0, b.cells, np.where(b.cells == most, least, np.where(b.cells == least, most, b.cells)))


COLOURING: dict[str, Callable[[Batch], Cells]] = {
    **{f"most_to_{c}": partial(_most_to, c) for c in (1, 4, 8)},
    **{f"least_to_{c}": partial(_least_to, c) for c in (2, 6)},
    "swap_most_and_least": _swap,
    "keep_most": lambda b: np.where(b.cells == _most(b), b.cells, np.int8(0)),
    "drop_most": lambda b: np.where(b.cells == _most(b), np.int8(0), b.cells),
    "paint_all": lambda b: np.where(b.cells > 0, _most(b), b.cells),
    "background_to_3": lambda b: np.where(b.cells == 0, np.int8(3), b.cells),
    "invert": lambda b: np.where(b.cells == 0, _most(b), np.int8(0)),
}


def _crop(batch: Batch) -> Batch:
    """The smallest part that holds all coloured cells."""
    coloured = batch.cells > 0
    rows: Flags = np.any(coloured, axis=2)
    columns: Flags = np.any(coloured, axis=1)
    top, left = rows.argmax(1), columns.argmax(1)
    size = np.stack([SIDE - rows[:, ::-1].argmax(1) - top, SIDE - columns[:, ::-1].argmax(1) - left], 1)
    size = np.where(np.any(rows, axis=1)[:, None], size, 0)
    return taken(batch, size, top[:, None, None] + _I, left[:, None, None] + _J)


def _fall(axis: int, towards: int, batch: Batch) -> Batch:
    """Coloured cells fall along an axis, in their order, to the end (1) or the start (-1)."""
    rank = np.where(batch.cells == PAD, 2, np.where(batch.cells > 0, int(towards > 0), int(towards < 0)))
    order = rank.argsort(axis, kind="stable")
    return Batch(np.take_along_axis(batch.cells, order, axis), batch.size)


def _spread(flags: Flags) -> Flags:
    """Flags and their four neighbours."""
    wide = flags.copy()
    wide[:, 1:] |= flags[:, :-1]
    wide[:, :-1] |= flags[:, 1:]
    wide[:, :, 1:] |= flags[:, :, :-1]
    wide[:, :, :-1] |= flags[:, :, 1:]
    return wide


def _edge(batch: Batch) -> Flags:
    """Cells at the border of their grid."""
    h, w = batch.size[:, :1, None], batch.size[:, 1:, None]
    edge: Flags = ((_I == 0) | (_J == 0) | (h - 1 == _I) | (w - 1 == _J)) & inside(batch.size, SHAPE)
    return edge


def _fill(batch: Batch) -> Batch:
    """Background that can't be reached from the border takes the most frequent colour."""
    empty = batch.cells == 0
    reached = empty & _edge(batch)
    for _ in range(SIDE * SIDE):
        wider = _spread(reached) & empty
        if (wider == reached).all():
            break
        reached = wider
    return Batch(np.where(empty & ~reached, _most(batch), batch.cells), batch.size)


def _largest(batch: Batch) -> Batch:
    """The largest group of adjacent coloured cells; of equal ones the last."""
    coloured = batch.cells > 0
    label = np.where(coloured, _I * SIDE + _J + 1, 0)
    for _ in range(SIDE * SIDE):
        high = label.copy()
        high[:, 1:] = np.maximum(high[:, 1:], label[:, :-1])
        high[:, :-1] = np.maximum(high[:, :-1], label[:, 1:])
        high[:, :, 1:] = np.maximum(high[:, :, 1:], label[:, :, :-1])
        high[:, :, :-1] = np.maximum(high[:, :, :-1], label[:, :, 1:])
        high = np.where(coloured, high, 0)
        if (high == label).all():
            break
        label = high
    most = SIDE * SIDE + 1
    flat = (label + most * np.arange(len(label))[:, None, None]).reshape(-1)
    count = np.bincount(flat, minlength=most * len(label)).reshape(len(label), most)
    count[:, 0] = 0
    best = most - 1 - count[:, ::-1].argmax(1)
    keep = coloured & (label == best[:, None, None])
    return Batch(np.where(coloured & ~keep, np.int8(0), batch.cells), batch.size)


def _hollow(batch: Batch) -> Batch:
    """Coloured cells whose four neighbours are coloured lose their colour."""
    bare = (batch.cells == 0) | (batch.cells == PAD)
    touching = _spread(bare) | _edge(batch)
    return Batch(np.where((batch.cells > 0) & ~touching, np.int8(0), batch.cells), batch.size)


def _complete(move: str, batch: Batch) -> Batch:
    """Background takes the colour that a mirror image has there."""
    image = _moved(MOVES[move], batch)
    return Batch(np.where(batch.cells == 0, image.cells, batch.cells), batch.size)


def _sorted(axis: int, batch: Batch) -> Batch:
    """Rows (or columns) in the order of their numbers of coloured cells."""
    within = inside(batch.size, SHAPE)
    count = np.where(within.any(axis), (batch.cells > 0).sum(axis), SIDE + 1)
    order = count.argsort(1, kind="stable")
    by_row, by_column = (order[:, :, None], _here(_J, len(order))), (_here(_I, len(order)), order[:, None])
    return taken(batch, batch.size, *(by_row if axis == 2 else by_column))


def _here(index: Ints, n: int) -> Ints:
    return np.broadcast_to(index, (n, *SHAPE))


def _bar(batch: Batch) -> Batch:
    """A row of the most frequent colour, as long as there are colours."""
    many = (_counts(batch) > 0).sum(1)
    size = np.where(many[:, None] > 0, np.stack([np.ones_like(many), many], 1), 0)
    size = np.where(size[:, 1:] > SIDE, 0, size)
    return Batch(np.where(inside(size, SHAPE), _most(batch), np.int8(PAD)), size)


STEPS: dict[str, tuple[str, Step]] = {
    **{name: ("geometry", partial(_moved, source)) for name, source in MOVES.items()},
    **{name: ("colours", partial(_recoloured, change)) for name, change in COLOURING.items()},
    "crop": ("objects", _crop),
    "fall_down": ("objects", partial(_fall, 1, 1)),
    "fall_right": ("objects", partial(_fall, 2, 1)),
    "fall_up": ("objects", partial(_fall, 1, -1)),
    "fill_holes": ("objects", _fill),
    "largest_object": ("objects", _largest),
    "hollow": ("objects", _hollow),
    "complete_left_right": ("objects", partial(_complete, "flip_left_right")),
    "complete_up_down": ("objects", partial(_complete, "flip_up_down")),
    "sort_rows": ("counting", partial(_sorted, 2)),
    "sort_columns": ("counting", partial(_sorted, 1)),
    "count_colours": ("counting", _bar),
}


class Grids(Rewriting):
    """Grids of at most 6 x 6 cells in ten colours; 0 is the background."""

    name = "grid"
    experts = ("geometry", "colours", "objects", "counting")
    shape = SHAPE

    @cached_property
    def steps(self) -> dict[str, tuple[str, Step]]:
        """37 primitives."""
        return STEPS

    def inputs(self, rng: np.random.Generator, n: int) -> Batch:
        """Sides of 2 to 5, two to four colours, loose cells or rectangles (some of them hollow)."""
        size = rng.integers(2, 6, (n, 2))
        colours = rng.permuted(np.tile(np.arange(1, COLOURS, dtype=np.int8), (n, 1)), axis=1)
        kinds = rng.integers(2, 5, n)
        colour = np.take_along_axis(colours, rng.integers(0, kinds[:, None], (n, SIDE * SIDE)), 1).reshape(n, *SHAPE)
        cells = np.where(rng.random((n, *SHAPE)) < rng.uniform(0.3, 0.6, (n, 1, 1)), colour, np.int8(0))
        blocks = np.zeros((n, *SHAPE), np.int8)
        for k in range(2):
            top, left = (rng.integers(0, np.maximum(size[:, a] - 1, 1))[:, None, None] for a in (0, 1))
            high, wide = (rng.integers(2, 6, n)[:, None, None] for _ in range(2))
            block = (top <= _I) & (top + high > _I) & (left <= _J) & (left + wide > _J)
            core = (top < _I) & (top + high - 1 > _I) & (left < _J) & (left + wide - 1 > _J)
            block &= ~(core & (rng.random(n) < 0.5)[:, None, None])
            blocks = np.where(block, colours[:, k, None, None], blocks)
        cells = np.where((rng.random(n) < 0.5)[:, None, None], cells, blocks)
        return Batch(np.where(inside(size, SHAPE), cells, np.int8(PAD)), size)

    def value(self, cells: NDArray[np.int8], size: Ints) -> Any:
        """Rows of colours."""
        return cells[: size[0], : size[1]].tolist()

    def batch(self, values: Sequence[Any]) -> Batch:
        """Rows of colours as grids."""
        return padded(values, SHAPE)
