"""Few-shot episodes from torchvision's data sets."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from metaloop.errors import DataError, UserError
from pydantic import Field
from torch import Tensor

from metaloop_basics.tasks.folder import resized
from metaloop_basics.tasks.images import ImageEpisodes

DataSet = Literal["MNIST", "FashionMNIST", "KMNIST", "EMNIST", "CIFAR10", "CIFAR100", "SVHN", "Omniglot", "FakeData"]


class TorchvisionEpisodes(ImageEpisodes):
    """Classes and images of a torchvision data set; `FakeData` (noise) needs no files."""

    dataset: DataSet = Field(default="Omniglot", description="a class in torchvision.datasets")
    root: str = Field(default="data", description="folder that holds torchvision's files")
    part: Literal["train", "test"] = Field(default="train", description="the data set's own split")
    download: bool = Field(default=False, description="fetch the files if they are not there")
    classes: tuple[int, ...] | None = Field(default=None, description="numbers of the classes to use; None: all")
    side: int = Field(default=28, ge=1, description="height and width in pixels after resizing")
    colour: Literal["grey", "rgb"] = Field(default="grey", description="one channel, or three")

    @classmethod
    def example(cls) -> Self:
        """Noise."""
        return cls(dataset="FakeData", ways=3, queries=2, side=8)

    def load(self) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Images `[image, channels, side, side]`.

        Raises:
            UserError: torchvision is not installed.
            DataError: the files are not there, or there is no such class.
        """
        data = self._data()
        pairs = [(resized(image, self.side, self.colour), int(label)) for image, label in data]
        labels = torch.tensor([label for _, label in pairs])
        names = self.classes or tuple(range(int(labels.max()) + 1))
        if missing := set(names) - set(labels.tolist()):
            raise DataError(f"classes: {self.dataset} has no class {min(missing)}, they go up to {int(labels.max())}")
        matches = labels.unsqueeze(1) == torch.tensor(names)  # [image, class]
        chosen = matches.any(1)
        pixels = torch.stack([image for image, _ in pairs])[chosen]
        return pixels, matches[chosen].long().argmax(1), tuple(map(str, names))

    def _data(self) -> Any:
        """The torchvision data set."""
        try:
            from torchvision import datasets
        except ModuleNotFoundError as error:
            raise UserError("basics/torchvision needs torchvision: pip install 'metaloop-basics[vision]'") from error
        if self.dataset == "FakeData":
            return datasets.FakeData(size=100, image_size=(3, self.side, self.side), num_classes=5)
        train = self.part == "train"
        settings: dict[str, Any] = {"train": train}
        if self.dataset == "SVHN":
            settings = {"split": self.part}
        elif self.dataset == "Omniglot":
            settings = {"background": train}
        elif self.dataset == "EMNIST":
            settings = {"train": train, "split": "balanced"}
        try:
            return getattr(datasets, self.dataset)(self.root, download=self.download, **settings)
        except RuntimeError as error:
            if self.download:
                raise DataError(f"{self.dataset} can't be fetched into {self.root!r}: {error}") from error
            raise DataError(
                f"{self.dataset} is not in {self.root!r}: set download=true to fetch it, or root to where it is"
            ) from error
