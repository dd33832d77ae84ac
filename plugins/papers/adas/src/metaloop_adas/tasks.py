"""Puzzles as a family: a validation set that stays the same through a search, and test sets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import numpy as np
from metaloop import Draw, Key, Spec, TaskFamily
from metaloop.errors import DataError
from pydantic import Field

from metaloop_adas.domain import Task
from metaloop_adas.domains import DOMAINS, experts


class PuzzleSpec(Spec):
    """Tasks with a text, examples (or none) and a test whose answer can be checked; see `metaloop_adas.domain.Task`."""

    domain: str
    experts: tuple[str, ...]
    """Fields of knowledge that agents may call on."""


class PuzzleSet(TypedDict):
    """The state: the whole set."""

    tasks: list[Task]


class Puzzles(TaskFamily[list[Task], PuzzleSet]):
    """A set of `count` tasks of a domain, drawn by the experiment's seed.

    The set is drawn once, as the family begins, so that all agents of a search meet the same tasks (paper, section 4:
    20 of ARC, 128 elsewhere).
    """

    domain: Literal["grid", "listfn", "arith"] = Field(default="grid", description="grids, lists or word problems")
    split: Literal["validation", "test"] = Field(default="validation", description="no rule is in both splits")
    count: int = Field(default=40, ge=1, description="tasks of the set")

    @classmethod
    def example(cls) -> Self:
        """A few."""
        return cls(count=4)

    @property
    def spec(self) -> PuzzleSpec:
        """The domain, and who knows something of it."""
        return PuzzleSpec(domain=self.domain, experts=experts(self.domain))

    @property
    def size(self) -> int:
        """The whole set."""
        return self.count

    def begin(self, key: Key) -> PuzzleSet:
        """Draw the set."""
        rng = np.random.default_rng(key.fold(self.split).seed())
        return PuzzleSet(tasks=DOMAINS[self.domain].draw(rng, self.count, self.split))

    def sample(self, state: PuzzleSet, n: int, key: Key) -> Draw[list[Task]]:
        """`n` tasks of the set, each once if all are asked for."""
        return Draw(chosen(state["tasks"], n, key))

    def columns(self, tasks: list[Task]) -> Mapping[str, Sequence[Any]]:
        """Each task's rule."""
        return {"rule": [task["rule"] for task in tasks]}


class ArcFiles(TaskFamily[list[Task], PuzzleSet]):
    """Tasks of the Abstraction and Reasoning Corpus from a folder of JSON files, as fchollet/ARC-AGI has them."""

    folder: str = Field(default="ARC-AGI/data/training", description="where the files are")
    largest: int = Field(default=5, ge=1, description="largest side of a grid (paper: 5)")
    count: int = Field(default=20, ge=1, description="tasks of the set")
    part: int = Field(default=0, ge=0, description="which `count` of the files, shuffled: another number, other tasks")

    @property
    def spec(self) -> PuzzleSpec:
        """Grids."""
        return PuzzleSpec(domain="arc", experts=experts("arc"))

    @property
    def size(self) -> int:
        """The whole set."""
        return self.count

    def begin(self, key: Key) -> PuzzleSet:
        """Read the files.

        Raises:
            DataError: there are too few, or one is not in the corpus' form.
        """
        fitting = [task for path in sorted(Path(self.folder).glob("*.json")) if (task := self._read(path)) is not None]
        if len(fitting) < (self.part + 1) * self.count:
            raise DataError(
                f"folder: {self.folder!r} has {len(fitting)} ARC tasks of at most {self.largest} x {self.largest} "
                f"cells, and {(self.part + 1) * self.count} are needed (get data/training of fchollet/ARC-AGI)"
            )
        order = np.random.default_rng(0).permutation(len(fitting))[
            self.part * self.count : (self.part + 1) * self.count
        ]
        return PuzzleSet(tasks=[fitting[i] for i in order])

    def _read(self, path: Path) -> Task | None:
        try:
            held = json.loads(path.read_text())
            pairs = [{k: pair[k] for k in ("input", "output")} for pair in (*held["train"], held["test"][0])]
            sides = [side for pair in pairs for grid in pair.values() for side in (len(grid), *map(len, grid))]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{path}: this is no ARC task ({type(error).__name__}: {error})") from error
        if max(sides) > self.largest:
            return None
        return {"domain": "arc", "rule": path.stem, "train": pairs[:-1], "test": pairs[-1], "text": ""}

    def sample(self, state: PuzzleSet, n: int, key: Key) -> Draw[list[Task]]:
        """`n` tasks of the set, each once if all are asked for."""
        return Draw(chosen(state["tasks"], n, key))

    def columns(self, tasks: list[Task]) -> Mapping[str, Sequence[Any]]:
        """Each task's file."""
        return {"rule": [task["rule"] for task in tasks]}


def chosen(tasks: list[Task], n: int, key: Key) -> list[Task]:
    """All tasks in their order, or `n` of them at random."""
    return list(tasks) if n == len(tasks) else [tasks[i] for i in key.permutation(len(tasks))[:n].tolist()]
