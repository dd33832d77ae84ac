"""Parts of all installed plugins fit or are refused at building; each runs once here, all that fits in nox -s cross."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from metaloop.specs import Spec
from metaloop.testing.compositions import Examples, try_all
from metaloop.testing.matrix import named


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples.installed()


def test_what_does_not_fit_is_refused_at_building_for_a_reason_that_names_what_differs(examples: Examples) -> None:
    assert not examples.fits.faults
    words = set(_words(Spec))
    for (one, other), why in examples.fits.refusals.items():
        if one in examples.tasks:  # the reason is about the kind of task
            named_here = words | {type(examples.learners[other]).__name__}
            assert named_here & set(re.findall(r"\w+", why)), (one, other, why)
        else:  # the reason names both
            both = (type(examples.learners[one]).__name__, type(examples.meta_optimizers[other]).__name__)
            assert all(name in why for name in both), (one, other, why)


def test_every_part_that_fits_another_takes_two_steps_and_resumes(examples: Examples) -> None:
    tried = try_all(examples, examples.fits.each_part_once())
    assert not {named(each.composition): each.fault for each in tried if each.fault is not None}
    parts = {part for each in tried for part in each.composition}
    assert {id for pair in examples.fits.inner for id in pair} <= parts


def _words(spec: type[Spec]) -> Iterator[str]:
    """Names of specs and of their fields, and what their fields can be."""
    yield spec.__name__
    for name, field in spec.model_fields.items():
        yield from (name, name.removesuffix("s"), f"{name.removesuffix('s')}s")
        yield from re.findall(r"'(\w+)'", str(field.annotation))
    for below in spec.__subclasses__():
        yield from _words(below)
