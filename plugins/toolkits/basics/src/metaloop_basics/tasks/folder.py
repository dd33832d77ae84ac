"""Few-shot episodes from a folder of images: `folder/class/image.png`."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from metaloop.errors import DataError, UserError
from metaloop.plugins import nearest
from pydantic import Field
from torch import Tensor

from metaloop_basics.tasks.images import ImageEpisodes

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class ImageFolderEpisodes(ImageEpisodes):
    """Every sub-folder is a class, named by it; images are resized to squares."""

    folder: str = Field(min_length=1, description="path of a folder that holds one folder of images per class")
    classes: tuple[str, ...] | None = Field(default=None, description="names of the sub-folders to use; None: all")
    side: int = Field(default=28, ge=1, description="height and width in pixels after resizing")
    colour: Literal["grey", "rgb"] = Field(default="grey", description="one channel, or three")

    @classmethod
    def example(cls) -> Self:
        """Three classes of a few digits each, written into the temporary folder."""
        return cls(folder=_example_folder(), ways=3, queries=2, side=8)

    def load(self) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Images `[image, channels, side, side]`.

        Raises:
            DataError: there is no such folder or class, or a file can't be read as an image.
        """
        root = Path(self.folder).expanduser()
        if not root.is_dir():
            raise DataError(f"folder: {self.folder!r} is not a folder")
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        names = there if self.classes is None else list(self.classes)
        for name in names:
            if name not in there:
                raise DataError(f"classes: {self.folder} has no sub-folder {name!r}.{nearest(name, there)}")
        files = [(i, path) for i, name in enumerate(names) for path in _images_in(root / name)]
        if not files:
            raise DataError(
                f"folder: {self.folder} has no images ({', '.join(SUFFIXES)}) in sub-folders, one per class"
            )
        pixels = torch.stack([_opened(path, self.side, self.colour) for _, path in files])
        return pixels, torch.tensor([i for i, _ in files]), tuple(names)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _opened(path: Path, side: int, colour: str) -> Tensor:
    image = pillow().Image
    try:
        with image.open(path) as opened:
            return resized(opened, side, colour)
    except OSError as error:
        raise DataError(f"{path} can't be read as an image: {str(error).splitlines()[0]}") from error


def resized(image: Any, side: int, colour: str) -> Tensor:
    """A Pillow image as `[channels, side, side]` in [0, 1]."""
    small = image.convert("L" if colour == "grey" else "RGB").resize((side, side))
    pixels = torch.from_numpy(np.array(small, dtype=np.float32) / 255)
    return pixels.unsqueeze(0) if colour == "grey" else pixels.permute(2, 0, 1)


def pillow() -> Any:
    """Pillow.

    Raises:
        UserError: it is not installed.
    """
    try:
        import PIL.Image
    except ModuleNotFoundError as error:
        raise UserError("image files need Pillow: pip install 'metaloop-basics[vision]'") from error
    return PIL


def _example_folder() -> str:
    from sklearn.datasets import load_digits

    root = Path(tempfile.gettempdir()) / f"metaloop-basics-{getpass.getuser()}"
    bunch = load_digits()
    for digit in range(3):
        place = root / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        for i, row in enumerate((bunch.target == digit).nonzero()[0][:4]):
            written = place / f"{i}.png"
            if not written.exists():  # another process may be writing it too
                aside = place / f"{i}.{os.getpid()}"
                pillow().Image.fromarray((bunch.images[row] * 15.9).astype(np.uint8)).save(aside, "PNG")
                aside.replace(written)
    return str(root)
