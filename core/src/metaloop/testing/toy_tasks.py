"""Small task families: tensors, episodes, plain values, and a curriculum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from metaloop import tree
from metaloop.key import Key
from metaloop.outcome import Draw, Episode, Outcome
from metaloop.specs import ObjectiveSpec, Spec, SupervisedSpec, TextSpec
from metaloop.tasks import AnyTaskFamily, TaskFamily

Letters = dict[str, str]
ALPHABET = "abcdefgh"


class Quadratic(NamedTuple):
    """Minimise `|x - center|^2`."""

    center: Tensor
    """`[task, dimension]`."""
    allowed: Tensor
    """`[task]` int64: inner steps that this task allows."""


class Quadratics(TaskFamily[Quadratic, dict[str, Any]]):
    """Bowls whose centers lie around a point away from the origin."""

    dimension: int = Field(default=2, ge=1, description="number of coordinates")
    offset: float = Field(default=2.0, description="mean of every coordinate of the centers")
    spread: float = Field(default=0.5, ge=0.0, description="standard deviation of the centers")

    @property
    def spec(self) -> Spec:
        """Functions of `dimension` coordinates."""
        return ObjectiveSpec(dimension=self.dimension)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Quadratic]:
        """Centers `[n, dimension]`, and 0 to 3 allowed steps."""
        keys = key.split(n)
        center = self.offset + self.spread * keys.fold("center").normal(self.dimension)
        return Draw(Quadratic(center, keys.fold("allowed").randint(0, 4)))


def height(x: Tensor, task: Quadratic) -> Tensor:
    """`|x - center|^2` over the last axis."""
    return ((x - task.center) ** 2).sum(-1)


class Lines(TaskFamily[Episode, dict[str, Any]]):
    """Regression on straight lines `y = slope * x + height`."""

    shots: int = Field(default=5, ge=1, description="rows to learn from")
    queries: int = Field(default=4, ge=1, description="rows to be judged on")

    @property
    def spec(self) -> Spec:
        """One input, one output."""
        return SupervisedSpec(inputs=(1,), outputs=1, shots=self.shots, queries=self.queries)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Slopes in [1, 3), heights in [-1, 1), inputs in [-1, 1)."""
        keys = key.split(n)
        slope = keys.fold("slope").uniform(1, 1, low=1.0, high=3.0)
        height = keys.fold("height").uniform(1, 1, low=-1.0, high=1.0)
        x = keys.fold("x").uniform(self.shots + self.queries, 1, low=-1.0, high=1.0)
        y = slope * x + height
        return Draw(Episode(x[:, : self.shots], y[:, : self.shots], x[:, self.shots :], y[:, self.shots :]))


class Words(TaskFamily[list[Letters], dict[str, Any]]):
    """Guess a hidden word; tasks are plain values."""

    letters: int = Field(default=3, ge=1, description="length of the words")

    @property
    def spec(self) -> Spec:
        """Answers that can be checked."""
        return TextSpec()

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[list[Letters]]:
        """Words of the alphabet's second half."""
        half = len(ALPHABET) // 2
        rows = key.split(n).randint(half, 2 * half, self.letters).tolist()
        return Draw([{"word": "".join(ALPHABET[i] for i in row)} for row in rows])


class Revisits(TaskFamily[Any, dict[str, Tensor]]):
    """A curriculum: a fixed set of another family's tasks, of which the hardest so far come more often."""

    inner: AnyTaskFamily = Field(default=Quadratics(), description="where the tasks come from")
    levels: int = Field(default=6, ge=2, description="how many tasks there are to return to")
    seed: int = Field(default=0, ge=0, description="which tasks they are")

    @property
    def spec(self) -> Spec:
        """The inner family's."""
        return self.inner.spec

    def begin(self, key: Key) -> dict[str, Tensor]:
        """Scores `[levels]` and how often each level's life has ended."""
        return {
            "score": torch.zeros(self.levels, dtype=torch.get_default_dtype(), device=key.device),
            "seen": torch.zeros(self.levels, dtype=torch.int64, device=key.device),
        }

    def sample(self, state: dict[str, Tensor], n: int, key: Key) -> Draw[Any]:
        """Levels by the Gumbel trick on their scores; the tag `[n]` is the level."""
        fixed = Key.of(self.seed, key.device)
        everything = self.inner.sample(self.inner.begin(fixed), self.levels, fixed.fold("levels")).tasks
        uniform = key.split(n).uniform(self.levels, low=1e-6)
        level = (state["score"] - torch.log(-torch.log(uniform))).argmax(-1)
        if isinstance(everything, list):
            return Draw([everything[i] for i in level.tolist()], level)
        return Draw(tree.index(everything, level), level)

    def observe(self, state: dict[str, Tensor], draw: Draw[Any], outcome: Outcome) -> dict[str, Tensor]:
        """Remember the scores of lives that have ended."""
        assert draw.tag is not None
        ended = slice(None) if outcome.done is None else outcome.done
        level, score = draw.tag[ended], torch.tanh(outcome.score.detach()[ended])
        seen = state["seen"].index_add(0, level, torch.ones_like(level))
        return {"score": state["score"].index_copy(0, level, score.to(state["score"].dtype)), "seen": seen}
