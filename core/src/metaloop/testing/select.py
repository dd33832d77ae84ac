"""Every check as a test of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from metaloop.component import Component
from metaloop.errors import UserError
from metaloop.learner import AnyLearner, Learner
from metaloop.manifest import Plugin
from metaloop.meta_optimizer import MetaOptimizer
from metaloop.tasks import AnyTaskFamily, TaskFamily
from metaloop.testing import components, families, learners, meta_optimizers, plugin
from metaloop.testing.model import Case, strict

if TYPE_CHECKING:
    import pytest


def cases(
    subject: Component | Plugin | str,
    *,
    tasks: AnyTaskFamily | None = None,
    learner: AnyLearner | None = None,
    factor: float = 0.9,
    outer_steps: int = 50,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Case]:
    """The checks of a subject as `(name, function)`, where a function raises AssertionError if its check fails.

    Args:
        subject: a task family, learner, meta-optimizer, any other component, a plugin or the name of one.
        tasks: for a learner, tasks that it accepts; for a meta-optimizer see `check_meta_optimizer`.
        learner: see `check_meta_optimizer`.
        factor: see `check_meta_optimizer`.
        outer_steps: see `check_meta_optimizer`.
        expected_failures: check name -> reason; the function of a check named here raises where the check passes.

    Raises:
        UserError: a learner without tasks.
    """
    return strict(_cases(subject, tasks, learner, factor, outer_steps), expected_failures)


def _cases(
    subject: Component | Plugin | str,
    tasks: AnyTaskFamily | None,
    learner: AnyLearner | None,
    factor: float,
    outer_steps: int,
) -> Iterable[Case]:
    if isinstance(subject, Plugin | str):
        return plugin.cases(subject)
    if isinstance(subject, TaskFamily):
        return families.cases(subject)
    if isinstance(subject, Learner):
        if tasks is None:
            raise UserError(f"{type(subject).__name__} is a learner: give tasks=, a family that it accepts")
        return learners.cases(subject, tasks)
    if isinstance(subject, MetaOptimizer):
        return meta_optimizers.cases(subject, learner, tasks, factor=factor, outer_steps=outer_steps)
    return components.suite.cases(subject)


def parametrize(
    *subjects: Component | Plugin | str,
    tasks: AnyTaskFamily | None = None,
    learner: AnyLearner | None = None,
    factor: float = 0.9,
    outer_steps: int = 50,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """A pytest decorator that gives a test the argument `check`, one test per check; arguments as for `cases`.

    Tests are called `Class-check`, or `name-check` for a plugin.
    """
    import pytest

    found = []
    for subject in subjects:
        name = subject if isinstance(subject, str) else getattr(subject, "name", None)
        label = name if isinstance(subject, Plugin | str) else type(subject).__name__
        own = cases(
            subject,
            tasks=tasks,
            learner=learner,
            factor=factor,
            outer_steps=outer_steps,
            expected_failures=expected_failures,
        )
        found += [pytest.param(check, id=f"{label}-{check_name}") for check_name, check in own]
    return pytest.mark.parametrize("check", found)
