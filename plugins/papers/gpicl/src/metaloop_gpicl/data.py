"""Labelled data sets that tasks are made from: scikit-learn's bundled ones, and torchvision's."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from metaloop import Component, UserError
from metaloop.errors import DataError
from pydantic import Field
from torch import Tensor

Part = Literal["train", "held-out", "all"]


class Rows(NamedTuple):
    """Examples as rows of numbers, sorted by class."""

    x: Tensor
    """`[row, features]`, of mean square 1."""
    starts: Tensor
    """`[class]` int64: where each class begins."""
    counts: Tensor
    """`[class]` int64: rows of each class."""


class DataSet(Component):
    """A labelled data set, in two parts that share no example."""

    part: Part = Field(default="all", description="which examples: `train`, the `held-out` ones, or all")

    def load(self) -> tuple[Tensor, Tensor]:
        """The part's examples `[row, features]`, scaled, and their classes `[row]` int64 from 0."""
        raise NotImplementedError(f"{type(self).__name__} must implement load")

    def rows(self, device: torch.device) -> Rows:
        """The part's examples on a device."""
        return _on(self, device, torch.get_default_dtype())


class Bundled(DataSet):
    """A data set that comes with scikit-learn; three quarters of each class are `train`, one is `held-out`.

    Digits (8 x 8 pixels, 10 classes) are z-normalised over all examples and pixels, as images are in the paper; columns
    of wine (13, 3 classes), breast_cancer (30, 2 classes) and iris (4, 3 classes) each by itself.
    """

    name: Literal["digits", "wine", "breast_cancer", "iris"] = Field(default="digits", description="which data set")

    def load(self) -> tuple[Tensor, Tensor]:
        """The part, scaled by the mean and standard deviation of what is trained on."""
        from sklearn import datasets
        from sklearn.model_selection import train_test_split

        x, y = getattr(datasets, f"load_{self.name}")(return_X_y=True)
        train = np.arange(len(x))
        if self.part != "all":
            train, held_out = train_test_split(train, test_size=0.25, stratify=y, random_state=0)
        chosen = held_out if self.part == "held-out" else train
        axis = None if self.name == "digits" else 0
        scaled = (x[chosen] - x[train].mean(axis)) / x[train].std(axis)
        return torch.as_tensor(scaled), torch.as_tensor(y[chosen], dtype=torch.int64)


class Torchvision(DataSet):
    """One of torchvision's image data sets, read from a folder; `train` and `held-out` are its own two parts.

    Pixels are z-normalised over all of the part's images; images of three channels are kept so, or made grey.
    """

    name: Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "SVHN"] = Field(
        default="MNIST", description="a class in torchvision.datasets"
    )
    root: str = Field(default="data", description="folder that holds torchvision's files")
    download: bool = Field(default=False, description="fetch the files if they are not there")
    side: int = Field(default=14, ge=1, description="height and width in pixels after resizing")
    colour: Literal["grey", "rgb"] = Field(default="grey", description="one channel, or three")

    @classmethod
    def example(cls) -> Self:
        """Never loaded by itself."""
        return cls(part="train")

    def load(self) -> tuple[Tensor, Tensor]:
        """The part's images as rows.

        Raises:
            UserError: torchvision is not installed.
            DataError: the files are not there.
        """
        from metaloop_basics.tasks.vision import TorchvisionEpisodes

        if self.part == "all":
            raise UserError("data.part: torchvision's data sets have a train and a held-out part: name one")
        episodes = TorchvisionEpisodes(
            dataset=self.name,
            root=self.root,
            part="train" if self.part == "train" else "test",
            download=self.download,
            side=self.side,
            colour=self.colour,
        )
        pixels, labels, _ = episodes.load()
        x = pixels.flatten(1).double()
        return (x - x.mean()) / x.std(), labels


@lru_cache(maxsize=16)
def _on(data: DataSet, device: torch.device, dtype: torch.dtype) -> Rows:
    """Kept, for every outer step draws from it."""
    x, labels = data.load()
    counts = torch.bincount(labels)
    if int(counts.min()) == 0:
        raise DataError(f"data: class {int(counts.argmin())} has no examples")
    ordered = x[torch.argsort(labels, stable=True)]
    return Rows(ordered.to(device, dtype), (counts.cumsum(0) - counts).to(device), counts.to(device))
