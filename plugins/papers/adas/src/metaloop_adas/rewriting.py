"""Domains whose rules rewrite a grid (or a list, a grid of one row) in at most two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from metaloop_adas.domain import PAD, Cells, Domain, Flags, Ints, Table, Task, part_of

EXAMPLES = 3
_WEIGHTS = np.random.default_rng(0).integers(-(2**62), 2**62, 4096, dtype=np.int64)


class Batch(NamedTuple):
    """Grids in one array."""

    cells: Cells
    """`[grid, height, width]`, `PAD` outside a grid."""
    size: Ints
    """`[grid, 2]`: height and width; (0, 0) where a step is undefined."""


Step = Callable[[Batch], Batch]


class Rewriting(Domain):
    """Rules of one or two steps over padded grids."""

    shape: tuple[int, int]
    """The largest grid."""

    @property
    def steps(self) -> dict[str, tuple[str, Step]]:
        """Every primitive by name: its expert, and what it does to a batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement steps")

    def inputs(self, rng: np.random.Generator, n: int) -> Batch:
        """Random inputs."""
        raise NotImplementedError(f"{type(self).__name__} must implement inputs")

    def value(self, cells: Cells, size: Ints) -> Any:
        """One grid as a JSON value."""
        raise NotImplementedError(f"{type(self).__name__} must implement value")

    def batch(self, values: Sequence[Any]) -> Batch:
        """JSON values as grids."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch")

    @cached_property
    def primitives(self) -> tuple[str, ...]:
        """Names of the steps."""
        return tuple(self.steps)

    @cached_property
    def fields(self) -> tuple[int, ...]:
        """The expert of each step."""
        return tuple(self.experts.index(expert) for expert, _ in self.steps.values())

    @cached_property
    def programs(self) -> Ints:
        """All single steps, then all ordered pairs."""
        k = len(self.primitives)
        singles = np.stack([np.arange(k), np.full(k, -1)], 1)
        pairs = np.stack(np.meshgrid(np.arange(k), np.arange(k), indexing="ij"), -1).reshape(-1, 2)
        return np.concatenate([singles, pairs])

    def says(self, table: Table, program: int) -> Any:
        """The answer as rows of numbers."""
        return self.value(table.cells[program], table.size[program]) if table.size[program].any() else None

    def build(self, tasks: Sequence[Task]) -> list[Table]:
        """All programs on all examples and tests."""
        pairs = [pair for task in tasks for pair in (*task["train"], task["test"])]
        inputs = self.batch([pair["input"] for pair in pairs])
        return self._tables(inputs, self.batch([pair["output"] for pair in pairs]))

    def _outputs(self, inputs: Batch) -> tuple[Cells, Ints]:
        """Every program's output, `[program, grid, ...]`; equal grids between the two steps are rewritten once."""
        steps = [step for _, step in self.steps.values()]
        once = [step(inputs) for step in steps]
        between = Batch(np.concatenate([b.cells for b in once]), np.concatenate([b.size for b in once]))
        _, first, back = np.unique(names(between), return_index=True, return_inverse=True)
        small = Batch(between.cells[first], between.size[first])
        n, k = len(inputs.cells), len(steps)
        cells = np.empty((k + k * k, n, *self.shape), np.int8)
        size = np.empty((k + k * k, n, 2), np.int64)
        cells[:k], size[:k] = between.cells.reshape(k, n, *self.shape), between.size.reshape(k, n, 2)
        for second, step in enumerate(steps):
            done = step(small)
            cells[k + second :: k] = done.cells[back].reshape(k, n, *self.shape)
            size[k + second :: k] = done.size[back].reshape(k, n, 2)
        return cells, size

    def _tables(self, inputs: Batch, outputs: Batch) -> list[Table]:
        cells, size = self._outputs(inputs)
        programs, each = len(cells), EXAMPLES + 1
        same_size = (size == outputs.size).all(-1) & (size[..., 0] > 0)
        area = np.maximum(outputs.size.prod(1), 1)
        alike = ((cells == outputs.cells) & (outputs.cells != PAD)).sum((2, 3)) / area
        similarity = np.where(same_size, alike, 0.0).astype(np.float32).reshape(programs, -1, each)
        equal = (same_size & (cells == outputs.cells).all((2, 3))).reshape(programs, -1, each)
        cells = cells.reshape(programs, -1, each, *self.shape)[:, :, -1]
        size = size.reshape(programs, -1, each, 2)[:, :, -1]
        return [
            Table(
                similarity[:, t, :-1].mean(-1),
                equal[:, t, :-1].copy(),
                equal[:, t, -1].copy(),
                cells[:, t].copy(),
                size[:, t].copy(),
            )
            for t in range(cells.shape[1])
        ]

    def draw(self, rng: np.random.Generator, n: int, split: str) -> list[Task]:
        """Tasks whose examples leave one answer: all programs that pass them agree on the test.

        A quarter are single steps; pairs come from the split's half of all pairs and can't be done in one step.
        """
        found: list[Task] = []
        while len(found) < n:
            found += self._candidates(rng, max(16, min(2 * (n - len(found)), 64)), split)
        return found[:n]

    def _candidates(self, rng: np.random.Generator, n: int, split: str) -> list[Task]:
        k, each = len(self.primitives), EXAMPLES + 1
        rules = self._rules(rng, n, split)
        inputs = self.inputs(rng, n * each)
        outputs = self._run(inputs, np.repeat(rules, each, 0))
        defined = (outputs.size[:, 0] > 0).reshape(n, each).all(1)
        changed = ((inputs.size != outputs.size).any(1) | (inputs.cells != outputs.cells).any((1, 2))).reshape(n, each)
        labels = names(outputs).reshape(n, each)
        varied = (labels[:, 1:] != labels[:, :1]).any(1)
        good = np.flatnonzero(defined & changed.all(1) & varied)
        rows = (good[:, None] * each + np.arange(each)).reshape(-1)
        inputs, outputs = (Batch(b.cells[rows], b.size[rows]) for b in (inputs, outputs))
        tables = self._tables(inputs, outputs) if len(good) else []
        found = []
        for at, (rule, table) in enumerate(zip(rules[good], tables, strict=True)):
            fits: Flags = np.all(table.passed, axis=1)
            needless = rule[1] >= 0 and fits[:k].any()
            if needless or not table.right[fits].all():
                continue
            pairs = [
                {
                    "input": self.value(inputs.cells[i], inputs.size[i]),
                    "output": self.value(outputs.cells[i], outputs.size[i]),
                }
                for i in range(at * each, (at + 1) * each)
            ]
            text = " > ".join(self.primitives[step] for step in rule.tolist() if step >= 0)
            task = {"domain": self.name, "rule": text, "train": pairs[:-1], "test": pairs[-1], "text": ""}
            self.remember(task, table)
            found.append(task)
        return found

    def _rules(self, rng: np.random.Generator, n: int, split: str) -> Ints:
        k, half = len(self.primitives), 0 if split == "validation" else 1
        pairs = [pair for pair in self.programs[k:].tolist() if part_of(pair, 2) == half]
        rules = np.asarray(pairs, np.int64)[rng.integers(0, len(pairs), n)]
        single = rng.random(n) < 0.25
        rules[single] = np.stack([rng.integers(0, k, int(single.sum())), np.full(int(single.sum()), -1)], 1)
        return rules

    def _run(self, inputs: Batch, rules: Ints) -> Batch:
        """Each grid under its own rule, `[grid, 2]`."""
        now = Batch(inputs.cells.copy(), inputs.size.copy())
        for position in range(rules.shape[1]):
            before = Batch(now.cells.copy(), now.size.copy())
            for k, (_, step) in enumerate(self.steps.values()):
                rows = np.flatnonzero(rules[:, position] == k)
                if len(rows):
                    done = step(Batch(before.cells[rows], before.size[rows]))
                    now.cells[rows], now.size[rows] = done.cells, done.size
        return now


def names(batch: Batch) -> Ints:
    """A 64-bit name for each grid; equal grids have equal names."""
    flat = batch.cells.reshape(len(batch.cells), -1).astype(np.int64) + 2
    named: Ints = flat @ _WEIGHTS[: flat.shape[1]] + batch.size @ _WEIGHTS[-2:]
    return named


def padded(values: Sequence[Sequence[Sequence[int]]], shape: tuple[int, int]) -> Batch:
    """Rows of numbers as grids."""
    cells = np.full((len(values), *shape), PAD, np.int8)
    size = np.zeros((len(values), 2), np.int64)
    for i, rows in enumerate(values):
        size[i] = len(rows), len(rows[0]) if rows else 0
        cells[i, : size[i, 0], : size[i, 1]] = rows
    return Batch(cells, size)


def inside(size: Ints, shape: tuple[int, int]) -> Flags:
    """`[grid, height, width]`: the cells of each grid."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    flags: Flags = (rows < size[:, :1, None]) & (columns < size[:, 1:, None])
    return flags


def taken(batch: Batch, size: Ints, rows: Ints, columns: Ints) -> Batch:
    """Grids of new sizes, each cell from a row and a column of the old; a size that does not fit is undefined."""
    shape = batch.cells.shape[1:]
    fits = (size[:, 0] <= shape[0]) & (size[:, 1] <= shape[1]) & (size > 0).all(1) & (batch.size[:, 0] > 0)
    size = np.where(fits[:, None], size, 0)
    n = np.arange(len(batch.cells))[:, None, None]
    rows, columns = np.clip(rows, 0, shape[0] - 1), np.clip(columns, 0, shape[1] - 1)
    cells = np.where(inside(size, (shape[0], shape[1])), batch.cells[n, rows, columns], np.int8(PAD))
    return Batch(cells, size)
