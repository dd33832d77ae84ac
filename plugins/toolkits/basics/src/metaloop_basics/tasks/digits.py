"""Few-shot episodes from scikit-learn's bundled 8x8 handwritten digits."""

from __future__ import annotations

from typing import Self

import torch
from metaloop.errors import UserError
from pydantic import Field, model_validator
from torch import Tensor

from metaloop_basics.tasks.images import ImageEpisodes


class FewShotDigits(ImageEpisodes):
    """Classes are digits: meta-train on some, meta-test on others (`but(classes=(6, 7, 8, 9))`).

    With `rotations`, keep 6 and 9 on the same side: one is the other, turned.
    """

    ways: int = Field(default=3, ge=2, description="classes per task")
    classes: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4, 5), description="the digits that tasks are made of")

    @classmethod
    def example(cls) -> Self:
        """Two queries per class."""
        return cls(queries=2)

    @model_validator(mode="after")
    def _digits(self) -> Self:
        if not set(self.classes) <= set(range(10)) or len(set(self.classes)) < len(self.classes):
            raise UserError(f"classes: {self.classes} must be different digits from 0 to 9")
        there = len(self.classes) * (4 if self.rotations else 1)
        if self.ways > there:
            raise UserError(f"ways: an episode takes {self.ways} classes, and these are {there}: name more in classes")
        return self

    def load(self) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Images `[image, 1, 8, 8]` of the chosen digits."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels, digits = torch.as_tensor(bunch.images / 16, dtype=torch.float32), torch.as_tensor(bunch.target)
        matches = digits.unsqueeze(1) == torch.tensor(self.classes)  # [image, class]
        chosen = matches.any(1)
        return pixels[chosen].unsqueeze(1), matches[chosen].long().argmax(1), tuple(map(str, self.classes))
