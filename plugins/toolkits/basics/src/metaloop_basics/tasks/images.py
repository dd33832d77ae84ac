"""Few-shot classification episodes from any set of labelled images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from metaloop.errors import DataError, UserError
from metaloop.key import Key
from metaloop.outcome import Draw, Episode
from metaloop.specs import SupervisedSpec
from metaloop.tasks import TaskFamily
from pydantic import Field
from torch import Tensor

from metaloop_basics.tasks.sampling import distinct


class Images(NamedTuple):
    """Labelled images, sorted by class."""

    pixels: Tensor
    """`[image, channels, height, width]` in [0, 1]."""
    starts: Tensor
    """`[class]` int64: where each class begins."""
    counts: Tensor
    """`[class]` int64: images of each class."""


class ImageEpisodes(TaskFamily[Episode, dict[str, Any]]):
    """`ways` random classes, labelled anew in each task; `shots` and `queries` images of each, disjoint, shuffled."""

    ways: int = Field(default=5, ge=2, description="classes per task")
    shots: int = Field(default=1, ge=1, description="support images per class")
    queries: int = Field(default=5, ge=1, description="query images per class")
    rotations: bool = Field(
        default=False,
        description="classes turned by 90, 180 and 270 degrees are classes too, as on Omniglot (Santoro et al. 2016)",
    )

    def load(self) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """All images `[image, channels, height, width]` in [0, 1], their classes `[image]` and the classes' names."""
        raise NotImplementedError(f"{type(self).__name__} must implement load")

    @property
    def spec(self) -> SupervisedSpec:
        """`ways` classes.

        Raises:
            UserError: there are too few classes.
            DataError: a class has too few images.
        """
        shape = tuple(self.images(torch.device("cpu")).pixels.shape[1:])
        return SupervisedSpec(
            inputs=shape,
            outputs=self.ways,
            shots=self.ways * self.shots,
            queries=self.ways * self.queries,
            target="class",
        )

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Random classes in random order, and random images of each."""
        images, keys = self.images(key.device), key.split(n)
        classes = distinct(keys.fold("classes"), len(images.counts), self.ways)  # [task, way]
        rows = distinct(keys.fold("images").split(self.ways), images.counts[classes], self.shots + self.queries)
        rows = rows + images.starts[classes].unsqueeze(-1)  # [task, way, shot and query]
        support = _shuffled(images.pixels, rows[..., : self.shots], keys.fold("support"))
        query = _shuffled(images.pixels, rows[..., self.shots :], keys.fold("query"))
        return Draw(Episode(*support, *query))

    def images(self, device: torch.device) -> Images:
        """The images on a device.

        Raises:
            UserError: there are too few classes.
            DataError: a class has too few images.
        """
        return _on(self, device, torch.get_default_dtype())


def _shuffled(pixels: Tensor, rows: Tensor, keys: Key) -> tuple[Tensor, Tensor]:
    """Images and their ways in random order, from image numbers `[task, way, k]`: positions say nothing of labels."""
    ways, k = rows.shape[1:]
    order = keys.permutation(ways * k)
    return pixels[rows.flatten(1).gather(1, order)], order // k


@lru_cache(maxsize=4)
def _on(family: ImageEpisodes, device: torch.device, dtype: torch.dtype) -> Images:
    """Kept, for every outer step draws from it."""
    pixels, starts, counts = _sorted(family)
    return Images(pixels.to(device, dtype), starts.to(device), counts.to(device))


@lru_cache(maxsize=4)
def _sorted(family: ImageEpisodes) -> Images:
    """Loaded once in a process, for all devices."""
    pixels, labels, names = family.load()
    if family.rotations:
        height, width = pixels.shape[2:]
        if height != width:
            raise DataError(f"rotations: images must be square, these are {height} x {width} pixels")
        pixels = torch.cat([pixels.rot90(turn, (2, 3)) for turn in range(4)])
        labels = torch.cat([labels + turn * len(names) for turn in range(4)])
        names = tuple(f"{name} turned by {90 * turn}" for turn in range(4) for name in names)
    counts = torch.bincount(labels, minlength=len(names))
    _check(family, counts.tolist(), names)
    return Images(pixels[torch.argsort(labels, stable=True)], counts.cumsum(0) - counts, counts)


def _check(family: ImageEpisodes, counts: list[int], names: tuple[str, ...]) -> None:
    if len(counts) < family.ways:
        raise UserError(
            f"ways: an episode takes {family.ways} classes, there are {len(counts)}: lower ways or add classes"
        )
    needed = family.shots + family.queries
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if counts[fewest] < needed:
        raise DataError(
            f"class {names[fewest]!r} has {counts[fewest]} images, and an episode takes {needed} (shots + queries)"
        )
