"""Word problems of four steps; some numbers don't matter, and some words mislead."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaloop_adas.domain import PAD, Domain, Ints, Table, Task, part_of

STEPS = 4
LARGEST = 999
OPERATIONS = ("add", "subtract", "multiply", "divide", "ignore")
PHRASES: tuple[tuple[str, int, int], ...] = (
    ("Then she finds {n} more.", 0, 0),
    ("A friend hands her {n}.", 0, 0),
    ("She takes {n} back from her brother.", 0, 1),
    ("She gives {n} away.", 1, 1),
    ("She loses {n}.", 1, 1),
    ("Her brother adds {n} of hers to his own.", 1, 0),
    ("A wizard swaps each of them for {n}.", 2, 2),
    ("Then she has {n} times as many.", 2, 2),
    ("A wizard divides every one into {n}, each as good as the old.", 2, 3),
    ("She shares them equally among {n} bags and keeps one bag.", 3, 3),
    ("Only one in {n} of them is left.", 3, 3),
    ("She gives all but one of {n} equal shares away.", 3, 1),
    ("The bag costs {n} coins.", 4, 4),
    ("She is {n} years old.", 4, 4),
    ("Her brother has {n} more in his own bag.", 4, 0),
)
"""What a sentence says, the operation that it means and the one that its words suggest."""


class Arithmetic(Domain):
    """A program is an operation for each of a story's sentences. There are no examples to try it on."""

    name = "arith"
    experts = ("sums", "factors", "relevance")

    @cached_property
    def primitives(self) -> tuple[str, ...]:
        """The operations."""
        return OPERATIONS

    @cached_property
    def fields(self) -> tuple[int, ...]:
        """The expert of each operation."""
        return (0, 0, 1, 1, 2)

    @cached_property
    def programs(self) -> Ints:
        """All sequences of four operations."""
        return np.asarray(list(itertools.product(range(len(OPERATIONS)), repeat=STEPS)))

    def says(self, table: Table, program: int) -> Any:
        """The answer as a number."""
        return int(table.cells[program, 0, 0]) if table.size[program].any() else None

    def draw(self, rng: np.random.Generator, n: int, split: str) -> list[Task]:
        """Stories whose sequence of operations is in the split's half of all sequences; every result is whole."""
        half, found = 0 if split == "validation" else 1, list[Task]()
        while len(found) < n:
            said = [PHRASES[i] for i in rng.integers(0, len(PHRASES), STEPS)]
            rule = [operation for _, operation, _ in said]
            numbers = [int(rng.integers(3, 41)), *(int(rng.integers(2, 8)) for _ in said)]
            values = self._values(numbers)
            answer = int(values[self.index[" > ".join(OPERATIONS[k] for k in rule)]])
            if part_of(rule, 2) != half or answer < 0 or all(k == 4 for k in rule):
                continue
            story = [sentence.format(n=k) for (sentence, _, _), k in zip(said, numbers[1:], strict=True)]
            text = " ".join((f"Mia has {numbers[0]} marbles.", *story, "How many marbles does she have?"))
            found.append(
                {
                    "domain": self.name,
                    "rule": " > ".join(OPERATIONS[k] for k in rule),
                    "train": [],
                    "test": {"input": [[PHRASES.index(s) for s in said], numbers], "output": answer},
                    "text": text,
                }
            )
        return found

    def build(self, tasks: Sequence[Task]) -> list[Table]:
        """Evidence is how well operations go with the sentences' words: those that mislead speak for both."""
        found = []
        for task in tasks:
            said, numbers = task["test"]["input"]
            words = np.zeros((STEPS, len(OPERATIONS)), np.float32)
            for step, (_, meant, suggested) in enumerate(PHRASES[i] for i in said):
                words[step, meant] += 0.5
                words[step, suggested] += 0.5
            evidence = words[np.arange(STEPS), self.programs].mean(1)
            values = self._values(numbers)
            defined = values >= 0
            found.append(
                Table(
                    evidence.astype(np.float32),
                    np.ones((len(values), 0), bool),
                    defined & (values == task["test"]["output"]),
                    np.where(defined, values, PAD).astype(np.int16)[:, None, None],
                    np.repeat(defined[:, None], 2, 1).astype(np.int64),
                )
            )
        return found

    def _values(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Every program's result; -1 where one of its steps is not a whole number from 0 to 999."""
        value = np.full(len(self.programs), numbers[0], np.int64)
        for k, n in zip(self.programs.T, numbers[1:], strict=True):
            whole = np.where((k == 3) & (value % n != 0), -1, np.where(k == 3, value // n, value))
            done = np.select([k == 0, k == 1, k == 2], [value + n, value - n, value * n], whole)
            value = np.where((value < 0) | (done < 0) | (done > LARGEST), -1, done)
        return value
