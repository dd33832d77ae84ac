"""Classes of images as regression targets, some of them wrong: what double descent is seen on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, Self

import torch
from metaloop import Draw, Episode, Key, SupervisedSpec, TaskFamily
from metaloop.errors import DataError
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.images import ImageEpisodes
from pydantic import Field
from torch import Tensor, nn


class Rows(NamedTuple):
    """A whole data set."""

    x: Tensor
    """`[image, pixel]` in [0, 1], without pixels that never change."""
    label: Tensor
    """`[image]` int64."""
    classes: int


class NoisyImages(TaskFamily[Episode, dict[str, Any]]):
    """Random images to learn from and others to be judged on; targets are one-hot classes minus `1 / classes`.

    A share `noise` of the labels to learn from (on average) is wrong: another class, drawn evenly. Those to be judged
    on are right. Pixels that are constant over the data set are dropped: they would make dead features.
    """

    images: ImageEpisodes = Field(
        default=FewShotDigits(classes=tuple(range(10))),
        description="where the images come from: digits, torchvision's data sets, a folder",
    )
    shots: int = Field(default=200, ge=2, description="images to learn from, n")
    queries: int = Field(default=1000, ge=1, description="images to be judged on")
    noise: float = Field(default=0.2, ge=0, le=1, description="chance that a label to learn from is wrong")

    @classmethod
    def example(cls) -> Self:
        """Few digits."""
        return cls(shots=8, queries=5)

    @property
    def spec(self) -> SupervisedSpec:
        """Real targets, one per class.

        Raises:
            DataError: there are too few images.
        """
        rows = _rows(self.images, torch.device("cpu"), torch.get_default_dtype())
        if len(rows.x) < self.shots + self.queries:
            raise DataError(
                f"there are {len(rows.x)} images, and a task takes {self.shots + self.queries} (shots + queries): "
                "lower one of them"
            )
        return SupervisedSpec(
            inputs=(rows.x.shape[1],), outputs=rows.classes, shots=self.shots, queries=self.queries, target="real"
        )

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Images without replacement, labels with noise."""
        rows, keys = _rows(self.images, key.device, torch.get_default_dtype()), key.split(n)
        chosen = keys.fold("images").permutation(len(rows.x))[:, : self.shots + self.queries]
        support, query = chosen[:, : self.shots], chosen[:, self.shots :]
        wrong = keys.fold("wrong").uniform(self.shots) < self.noise
        other = (rows.label[support] + keys.fold("other").randint(1, rows.classes, self.shots)) % rows.classes
        label = torch.where(wrong, other, rows.label[support])
        return Draw(Episode(rows.x[support], _targets(label, rows), rows.x[query], _targets(rows.label[query], rows)))


def _targets(label: Tensor, rows: Rows) -> Tensor:
    return nn.functional.one_hot(label, rows.classes).to(rows.x.dtype) - 1 / rows.classes


@lru_cache(maxsize=4)
def _rows(images: ImageEpisodes, device: torch.device, dtype: torch.dtype) -> Rows:
    """Kept: every replicate draws from it."""
    pixels, _, counts = images.images(device)
    flat = pixels.flatten(1)
    changing = (flat != flat[0]).any(0)
    label = torch.arange(len(counts), device=device).repeat_interleave(counts)
    return Rows(flat[:, changing].to(dtype), label, len(counts))
