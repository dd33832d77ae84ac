"""Few-shot episodes from labelled images."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from metaloop.errors import DataError, UserError
from metaloop.key import Key
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.folder import ImageFolderEpisodes
from metaloop_basics.tasks.images import ImageEpisodes
from metaloop_basics.tasks.vision import TorchvisionEpisodes
from sklearn.datasets import load_digits
from torch import Tensor

Image = pytest.importorskip("PIL.Image")


def tasks_of(family: ImageEpisodes, n: int = 50, seed: int = 0) -> Any:
    return family.sample({}, n, Key.of(seed)).tasks


def known_digits() -> dict[bytes, int]:
    bunch = load_digits()
    return {
        (image / 16).astype(np.float32).tobytes(): int(y) for image, y in zip(bunch.images, bunch.target, strict=True)
    }


def true_digits(images: Tensor) -> list[list[int]]:
    known = known_digits()
    return [[known[image.numpy().tobytes()] for image in task] for task in images]


def test_digits_are_the_chosen_ones_in_all_orders() -> None:
    tasks = tasks_of(FewShotDigits(ways=3, classes=(6, 7, 8, 9)), 300)
    orders = set()
    for support, query, y, y_query in zip(
        true_digits(tasks.support_x),
        true_digits(tasks.query_x),
        tasks.support_y.tolist(),
        tasks.query_y.tolist(),
        strict=True,
    ):
        labels = dict(zip(y, support, strict=True))
        assert set(support) < {6, 7, 8, 9}
        assert len(set(support)) == 3
        assert [labels[label] for label in y_query] == query, "support and query agree on what a label means"
        orders.add(tuple(labels[label] for label in range(3)))
    assert len(orders) == 4 * 3 * 2


def test_meta_test_classes_are_never_seen_in_training() -> None:
    families = FewShotDigits(), FewShotDigits(classes=(6, 7, 8, 9))
    train, test = ({digit for task in true_digits(tasks_of(f).query_x) for digit in task} for f in families)
    assert train == {0, 1, 2, 3, 4, 5}
    assert test == {6, 7, 8, 9}


def test_support_and_query_are_balanced_disjoint_and_shuffled() -> None:
    tasks = tasks_of(FewShotDigits(ways=3, shots=4, queries=6))
    both = torch.cat([tasks.support_x, tasks.query_x], 1).flatten(2)
    repeats = (torch.cdist(both, both) == 0).sum((1, 2))
    assert (repeats == 30).all(), "an image is at distance 0 from itself alone"
    for y, each in ((tasks.support_y, 4), (tasks.query_y, 6)):
        assert all(torch.bincount(row).tolist() == [each] * 3 for row in y)
        assert float((y.sort().values == y).all(1).float().mean()) < 0.1, "positions give labels away"


def test_rotations_are_further_classes() -> None:
    family = FewShotDigits(ways=8, classes=(1, 2), rotations=True)
    tasks, known = tasks_of(family, 20), known_digits()
    for task in range(20):
        seen = set()
        for image in tasks.support_x[task]:
            turns = [k for k in range(4) if image[0].rot90(-k).contiguous().numpy().tobytes() in known]
            digit = known[image[0].rot90(-turns[0]).contiguous().numpy().tobytes()]
            seen.add((digit, turns[0]))
        assert seen == {(digit, turn) for digit in (1, 2) for turn in range(4)}


def test_a_key_names_its_episodes() -> None:
    one, again, other = (tasks_of(FewShotDigits(), 5, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.support_x, other.support_x)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four 10x12 images, each of one grey that names it."""
    for c, name in enumerate(("ant", "bee", "cow")):
        (tmp_path / name).mkdir()
        for i in range(4):
            grey = np.full((12, 10), 60 * c + 10 * i, dtype=np.uint8)
            Image.fromarray(grey).convert("RGB").save(tmp_path / name / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a class")
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_a_folder_of_folders(folder: Path, colour: Any, channels: int) -> None:
    family = ImageFolderEpisodes(folder=str(folder), ways=2, shots=1, queries=3, side=6, colour=colour)
    assert family.spec.inputs == (channels, 6, 6)
    tasks = tasks_of(family)
    greys = torch.cat([tasks.support_x, tasks.query_x], 1).mean((2, 3, 4)) * 255
    labels = torch.cat([tasks.support_y, tasks.query_y], 1)
    classes = (greys.round() // 60).long()
    assert set(classes.flatten().tolist()) == {0, 1, 2}
    assert all(len(set(zip(c, y, strict=True))) == 2 for c, y in zip(classes.tolist(), labels.tolist(), strict=True))


def test_some_folders_only(folder: Path) -> None:
    family = ImageFolderEpisodes(folder=str(folder), classes=("ant", "cow"), ways=2, queries=3, side=4)
    greys = (tasks_of(family).query_x.mean((2, 3, 4)) * 255).round() // 60
    assert set(greys.flatten().tolist()) == {0.0, 2.0}


def test_unusable_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "dog").mkdir()
    (folder / "dog" / "0.png").write_bytes(b"not a picture")
    (folder / "empty" / "nothing").mkdir(parents=True)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"folder": str(folder / "nowhere")}, "is not a folder"),
        ({"folder": str(folder), "classes": ("ant", "be")}, "no sub-folder 'be'.*Did you mean 'bee'"),
        ({"folder": str(folder), "classes": ("ant", "dog")}, "0.png can't be read as an image"),
        ({"folder": str(folder / "empty")}, "has no images"),
        ({"folder": str(folder), "classes": ("ant", "bee"), "shots": 2, "queries": 3}, "has 4 images, and .* takes 5"),
    ]
    for fields, reason in cases:
        with pytest.raises(DataError, match=reason) as caught:
            _ = ImageFolderEpisodes(**{"ways": 2, "queries": 3, **fields}).spec
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"ways: .* takes 4 classes, there are 3"):
        _ = ImageFolderEpisodes(folder=str(folder), classes=("ant", "bee", "cow"), ways=4, queries=1).spec


@pytest.mark.parametrize(
    ("fields", "field"), [({"classes": (1, 10)}, "classes"), ({"classes": (1, 1)}, "classes"), ({"ways": 7}, "ways")]
)
def test_impossible_digits_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        FewShotDigits(**fields)


def test_torchvision_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"metaloop-basics\[vision\]"):
        _ = TorchvisionEpisodes(dataset="MNIST").spec


class Drawn:
    """What a torchvision data set is to us: pairs of a Pillow image and a class. Greys tell the classes apart."""

    def __init__(self, root: str, download: bool = False, **settings: Any) -> None:
        if root == "elsewhere":
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.pairs = [(Image.fromarray(np.full((9, 9), 50 * (i % 4), dtype=np.uint8)), i % 4) for i in range(24)]
        self.settings = settings

    def __iter__(self) -> Any:
        return iter(self.pairs)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """A torchvision whose data sets are drawn here; the list holds those that were made."""
    made: list[Drawn] = []

    def make(*args: Any, **kwargs: Any) -> Drawn:
        made.append(Drawn(*args, **kwargs))
        return made[-1]

    module = ModuleType("torchvision")
    module.datasets = ModuleType("torchvision.datasets")  # type: ignore[attr-defined]
    for name in ("MNIST", "SVHN", "Omniglot", "EMNIST"):
        setattr(module.datasets, name, make)
    monkeypatch.setitem(sys.modules, "torchvision", module)
    return made


def test_torchvision_data_sets_are_asked_in_their_own_terms(stand_in: list[Drawn]) -> None:
    for dataset in ("MNIST", "SVHN", "Omniglot", "EMNIST"):
        family = TorchvisionEpisodes(dataset=dataset, root="here", part="test", ways=2, side=5)
        assert family.spec.inputs == (1, 5, 5)
    assert [data.settings for data in stand_in] == [
        {"train": False},
        {"split": "test"},
        {"background": False},
        {"train": False, "split": "balanced"},
    ]


def test_torchvision_classes_can_be_chosen(stand_in: list[Drawn]) -> None:
    family = TorchvisionEpisodes(dataset="MNIST", root="here", classes=(3, 1), ways=2, side=5)
    greys = (tasks_of(family).query_x.mean((2, 3, 4)) * 255).round()
    assert set(greys.flatten().tolist()) == {50.0, 150.0}
    with pytest.raises(DataError, match="no class 7"):
        _ = family.but(classes=(1, 7)).spec


def test_torchvision_files_that_are_not_there(stand_in: list[Drawn]) -> None:
    with pytest.raises(DataError, match="MNIST is not in 'elsewhere': set download=true"):
        _ = TorchvisionEpisodes(dataset="MNIST", root="elsewhere").spec


def test_torchvision_itself() -> None:
    pytest.importorskip("torchvision")
    family = TorchvisionEpisodes.example()
    assert family.spec.inputs == (1, 8, 8)
    assert tasks_of(family, 2).support_y.shape == (2, 3)
