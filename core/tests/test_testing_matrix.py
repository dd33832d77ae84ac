"""The matrix of compositions finds what a composition does wrong, and chooses so that every two parts meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import plugins
from metaloop.errors import Incompatible
from metaloop.manifest import Kind, Part, Plugin
from metaloop.specs import Spec
from metaloop.testing import matrix
from metaloop.testing.compositions import Composition, Examples, Fits, try_all
from metaloop.testing.toys import TOYS as TOY_PLUGIN
from metaloop.testing.toys import Descent, Fit, Lines, Quadratics

from .methods import Sgd


class Forgetful(Sgd):
    """Counts its steps on itself, where no checkpoint sees it."""

    def step(self, theta: Any, state: Any, objective: Any, key: Any) -> Any:
        vars(self)["taken"] = vars(self).get("taken", 0) + 1
        theta, state, outcome = super().step(theta, state, objective, key)
        return {name: value + vars(self)["taken"] for name, value in theta.items()}, state, outcome


class Breaks(Descent):
    """Fits by its word only."""

    def begin_one(self, theta: Any, task: Any, key: Any) -> torch.Tensor:
        raise RuntimeError("no such axis")


class Rude(Descent):
    """Refuses without a reason."""

    def check(self, spec: Spec) -> None:
        raise Incompatible("")


class Asserts(Descent):
    """Refuses with an error that is not for users."""

    def check(self, spec: Spec) -> None:
        raise AssertionError("dimension")


TOYS = Examples(
    {"toys/quadratics": Quadratics(), "toys/lines": Lines()},
    {"toys/descent": Descent(), "toys/fit": Fit()},
    {"odd/sgd": Sgd()},
)


@pytest.fixture(autouse=True)
def offered() -> Iterator[None]:
    """The toys of this file have ids, so that their run files load."""
    kinds: dict[type, Kind] = {Sgd: "meta-optimizer", Forgetful: "meta-optimizer", Breaks: "learner"}
    parts = tuple(Part(f"odd/{c.__name__.lower()}", kind, f"{c.__module__}:{c.__name__}") for c, kind in kinds.items())
    with plugins.registered(TOY_PLUGIN), plugins.registered(Plugin("odd", "toys that do wrong", components=parts)):
        yield


def test_what_fits_is_found_by_the_specs_and_tried() -> None:
    assert TOYS.fits.inner == (("toys/quadratics", "toys/descent"), ("toys/lines", "toys/fit"))
    assert TOYS.fits.outer == (("toys/descent", "odd/sgd"), ("toys/fit", "odd/sgd"))
    assert "Fit draws lines through points" in TOYS.fits.refusals["toys/quadratics", "toys/fit"]
    assert not TOYS.fits.faults
    assert [tried.fault for tried in try_all(TOYS, TOYS.fits.product())] == [None] * 4


def test_a_composition_that_breaks_or_does_not_resume_is_found() -> None:
    odd = Examples({"t": Quadratics()}, {"d": Descent(), "b": Breaks()}, {"sgd": Sgd(), "f": Forgetful()})
    faults = {tried.composition: tried.fault for tried in try_all(odd, odd.fits.product())}
    assert "no such axis" in str(faults[Composition("t", "b", "sgd")])
    assert "ends otherwise than in one go" in str(faults[Composition("t", "d", "f")])
    assert faults[Composition("t", "d", "sgd")] is None


def test_a_refusal_without_a_reason_or_of_another_kind_is_a_fault() -> None:
    odd = Examples({"t": Quadratics()}, {"rude": Rude(), "asserts": Asserts()}, {})
    assert odd.fits.faults["t + rude"] == "refused without a reason"
    assert "dimension" in odd.fits.faults["t + asserts"]
    assert "not Incompatible" in odd.fits.faults["t + asserts"]
    assert not odd.fits.inner


def test_every_two_parts_that_fit_meet_in_the_cover() -> None:
    fits = Fits(tuple(itertools.product("abc", "xyz")), tuple(itertools.product("xyz", "123")), refusals={}, faults={})
    cover = fits.cover()
    assert set(cover) <= set(fits.product())
    for first, second in ((0, 1), (1, 2), (0, 2)):
        met = {(c[first], c[second]) for c in cover}
        assert met == {(c[first], c[second]) for c in fits.product()}
    assert len(cover) < len(fits.product()) / 2


def test_the_page_says_what_fits_and_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Examples, "installed", lambda: TOYS)
    path = tmp_path / "matrix.md"
    assert matrix.main(["--page", str(path), "--json", str(tmp_path / "deep" / "matrix.json")]) == 0
    page = path.read_text()
    assert "| toys/quadratics | toys/descent |" in page
    assert "| toys/fit | toys/quadratics | Fit draws lines" in page
    assert "Not sound" not in page
    monkeypatch.setattr(Examples, "installed", lambda: Examples({"t": Quadratics()}, {"b": Breaks()}, {}))
    assert matrix.main(["--page", str(path)]) == 1
    assert "| t + b + its own loop | RuntimeError: no such axis |" in path.read_text()
