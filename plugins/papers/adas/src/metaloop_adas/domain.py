"""Puzzles whose rules are short programs over a small language, and all those programs' outputs at once.

A domain knows every program that its language has. For a batch of tasks it computes what each of them answers, so that
the uniqueness of a task, the examples that a program passes and a simulated solver's draws are all table look-ups.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Cells = NDArray[Any]
"""int8 colours or numbers (int16 in arithmetic)."""
Flags = NDArray[np.bool_]
Task = dict[str, Any]
"""`domain`, `rule`, `train` (a list of `input`, `output`), `test` (`input`, `output`), `text`: JSON values."""

PAD = -1
"""What cells outside a grid hold."""
KEPT = 2048
"""Tables that are kept for tasks that come again."""


class Table(NamedTuple):
    """What every program of a domain does to one task."""

    evidence: NDArray[np.float32]
    """`[program]` in [0, 1]: how much its outputs look like the examples' (arithmetic: its steps like the words)."""
    passed: Flags
    """`[program, example]`."""
    right: Flags
    """`[program]`: whether its answer is the task's."""
    cells: Cells
    """`[program, height, width]`: its answer, padded."""
    size: Ints
    """`[program, 2]`: the answer's size; (0, 0) where the program is undefined."""


class Domain:
    """One kind of puzzle: programs, their names, and what they do."""

    name: str
    experts: tuple[str, ...]
    """Fields of knowledge; every primitive belongs to one."""

    @property
    def primitives(self) -> Sequence[str]:
        """Names of the steps that programs are made of."""
        raise NotImplementedError(f"{type(self).__name__} must implement primitives")

    @property
    def fields(self) -> Sequence[int]:
        """The expert of each primitive."""
        raise NotImplementedError(f"{type(self).__name__} must implement fields")

    @cached_property
    def programs(self) -> Ints:
        """`[program, step]`: primitives, -1 for no step."""
        raise NotImplementedError(f"{type(self).__name__} must implement programs")

    @cached_property
    def texts(self) -> list[str]:
        """Every program as its code is written."""
        return [" > ".join(self.primitives[k] for k in row if k >= 0) for row in self.programs.tolist()]

    @cached_property
    def index(self) -> dict[str, int]:
        """A program's number by its code."""
        return {text: i for i, text in enumerate(self.texts)}

    @cached_property
    def expertise(self) -> NDArray[np.float32]:
        """`[program, expert]`: the share of a program's steps that an expert knows."""
        known = np.eye(len(self.experts), dtype=np.float32)[np.asarray(self.fields)]
        steps = self.programs >= 0
        summed = (known[np.maximum(self.programs, 0)] * steps[..., None]).sum(1)
        shares: NDArray[np.float32] = summed / steps.sum(1, keepdims=True)
        return shares

    def neighbours(self, program: int) -> Flags:
        """`[program]`: what one edit makes of a program: a step changed, added or removed."""
        row, all_ = self.programs[program], self.programs
        flags: Flags = (all_ != row).sum(1) == 1
        alone = row[row >= 0]
        if len(alone) < all_.shape[1]:  # a step may also come before those that are there
            flags |= (all_[:, 1:] == row[:-1]).all(1) & ((all_ >= 0).sum(1) == len(alone) + 1)
        elif len(alone) > 1:
            flags |= (all_[:, :-1] == row[1:]).all(1) & (all_[:, -1] < 0)
        return flags

    def draw(self, rng: np.random.Generator, n: int, split: str) -> list[Task]:
        """`n` tasks of a split.

        Rules are kept apart: no composition of steps is in two splits.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement draw")

    def build(self, tasks: Sequence[Task]) -> list[Table]:
        """The tables of some tasks, computed in one batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement build")

    def says(self, table: Table, program: int) -> Any:
        """A program's answer as a JSON value; None where it is undefined."""
        raise NotImplementedError(f"{type(self).__name__} must implement says")

    @cached_property
    def _kept(self) -> OrderedDict[str, Table]:
        return OrderedDict()

    def tables(self, tasks: Sequence[Task]) -> list[Table]:
        """The tables of some tasks; the last few are remembered."""
        names, kept = [json.dumps(task, sort_keys=True) for task in tasks], self._kept
        fresh = {name: task for name, task in zip(names, tasks, strict=True) if name not in kept}
        if fresh:
            for name, table in zip(fresh, self.build(list(fresh.values())), strict=True):
                kept[name] = table
        found = [kept[name] for name in names]
        while len(kept) > max(KEPT, len(tasks)):
            kept.popitem(last=False)
        return found

    def remember(self, task: Task, table: Table) -> None:
        """Keep a table that was computed when its task was drawn."""
        self._kept[json.dumps(task, sort_keys=True)] = table


def part_of(rule: Sequence[int], parts: int) -> int:
    """The part of a split that a rule belongs to, by its steps alone."""
    word = 0x9E3779B97F4A7C15
    for step in rule:
        word = ((word ^ (step + 1)) * 0xBF58476D1CE4E5B9) & ((1 << 64) - 1)
        word ^= word >> 31
    return word % parts
