"""Parts of all installed plugins compose: every part once here, and all that fits with `nox -s cross`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from metaloop.specs import Spec
from metaloop.testing.compositions import Examples, try_all
from metaloop.testing.matrix import named

NOT_SOUND = {
    "double-descent/widths + double-descent/two-layer + its own loop": "refused only when it begins",
    "double-descent/widths + double-descent/perfect-network + its own loop": "refused only when it begins",
}
"""Known, with what is wrong."""


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples.installed()


def test_what_does_not_fit_is_refused_at_building_for_a_reason_that_names_what_differs(examples: Examples) -> None:
    assert not examples.fits.faults
    words = set(_words(Spec))
    for (one, other), why in examples.fits.refusals.items():
        if one in examples.tasks:  # the reason is about the kind of task
            assert words & set(re.findall(r"\w+", why)), (one, other, why)
        else:  # the reason names both
            both = (type(examples.learners[one]).__name__, type(examples.meta_optimizers[other]).__name__)
            assert all(name in why for name in both), (one, other, why)


def test_every_part_takes_two_steps_and_resumes_in_some_composition(examples: Examples) -> None:
    chosen = examples.fits.each_part_once()
    assert {part for composition in chosen for part in composition} - {None} >= (
        examples.tasks.keys() | examples.learners.keys() | examples.meta_optimizers.keys()
    )
    faults = {named(tried.composition): tried.fault for tried in try_all(examples, chosen) if tried.fault is not None}
    assert faults.keys() <= NOT_SOUND.keys(), faults


def _words(spec: type[Spec]) -> Iterator[str]:
    """Names of specs and of their fields, and what their fields can be."""
    yield spec.__name__
    for name, field in spec.model_fields.items():
        yield from (name, name.removesuffix("s"), f"{name.removesuffix('s')}s")
        yield from re.findall(r"'(\w+)'", str(field.annotation))
    for below in spec.__subclasses__():
        yield from _words(below)
