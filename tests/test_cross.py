"""Parts of all installed plugins fit or are refused at building; `nox -s cross` runs all that fits."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from metaloop.specs import Spec
from metaloop.testing.compositions import Examples


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


def _words(spec: type[Spec]) -> Iterator[str]:
    """Names of specs and of their fields, and what their fields can be."""
    yield spec.__name__
    for name, field in spec.model_fields.items():
        yield from (name, name.removesuffix("s"), f"{name.removesuffix('s')}s")
        yield from re.findall(r"'(\w+)'", str(field.annotation))
    for below in spec.__subclasses__():
        yield from _words(below)
