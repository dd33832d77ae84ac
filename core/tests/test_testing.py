"""The suite's runner, and its checks of task families: whole ones pass, each broken one trips the checks for it."""

from __future__ import annotations

import importlib
import itertools
import random
import sys
from typing import Any

import metaloop
import numpy as np
import pytest
import torch
from metaloop import testing
from metaloop.errors import UserError
from metaloop.executors import ProcessPool
from metaloop.key import Key
from metaloop.outcome import Draw, Episode, Outcome
from metaloop.specs import ObjectiveSpec, Spec
from metaloop.tasks import AnyTaskFamily
from metaloop.testing import families
from metaloop.testing.toys import Descent, Lines, Quadratic, Quadratics, Revisits, Words
from torch import Tensor


def failed(results: list[testing.CheckResult]) -> set[str]:
    return {result.name for result in results if not result.ok}


class DrawsGlobally(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        draw = super().sample(state, n, key)
        return Draw(draw.tasks._replace(center=draw.tasks.center + torch.randn(())))


class CountsInItsState(Quadratics):
    def begin(self, key: Key) -> Any:
        return {"drawn": 0}

    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        state["drawn"] = 1
        return super().sample(state, n, key)


class IgnoresTheKey(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        return super().sample(state, n, Key.of(0))


class OneTagForAll(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        return super().sample(state, n, key)._replace(tag=torch.tensor(0))


class SqueezesOneTask(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        draw = super().sample(state, n, key)
        return Draw(Quadratic(*(part.squeeze(0) for part in draw.tasks)))


class OtherShotsThanItSays(Lines):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Episode]:
        tasks = super().sample(state, n, key).tasks
        return Draw(tasks._replace(support_x=tasks.support_x[:, 1:], support_y=tasks.support_y[:, 1:]))


class ClassesOutOfRange(Lines):
    @property
    def spec(self) -> Spec:
        return super().spec.model_copy(update={"target": "class", "outputs": 2})

    def sample(self, state: Any, n: int, key: Key) -> Draw[Episode]:
        tasks = super().sample(state, n, key).tasks
        one, two = torch.ones(n, self.shots, dtype=torch.int64), torch.ones(n, self.queries, dtype=torch.int64)
        return Draw(tasks._replace(support_y=one, query_y=2 * two))


class HandsOutObjects(Words):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        return Draw([{**task, "letters": set(task["word"])} for task in super().sample(state, n, key).tasks])


class HandsOutParameters(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        tasks = super().sample(state, n, key).tasks
        return Draw(tasks._replace(center=tasks.center.requires_grad_()))


class AlwaysSingle(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        tasks = super().sample(state, n, key).tasks
        return Draw(tasks._replace(center=tasks.center.float()))


class OnAnotherDevice(Quadratics):
    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        tasks = super().sample(state, n, key).tasks
        return Draw(tasks._replace(allowed=tasks.allowed.to("meta")))


class WithReplacement(Quadratics):
    @property
    def size(self) -> int:
        return 5

    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        every = super().sample(state, 5, Key.of(0)).tasks
        rows = key.randint(0, 5, n)
        return Draw(Quadratic(every.center[rows], every.allowed[rows]), rows)


class Finite(WithReplacement):
    """As it should be: each task once."""

    def sample(self, state: Any, n: int, key: Key) -> Draw[Any]:
        every = Quadratics.sample(self, state, 5, Key.of(0)).tasks
        rows = key.permutation(5)[:n]
        return Draw(Quadratic(every.center[rows], every.allowed[rows]), rows)


class ObservesInPlace(Revisits):
    def observe(self, state: dict[str, Tensor], draw: Draw[Any], outcome: Outcome) -> dict[str, Tensor]:
        state["seen"].add_(1)
        return super().observe(state, draw, outcome)


class StateCannotBeStored(Quadratics):
    def observe(self, state: Any, draw: Draw[Any], outcome: Outcome) -> Any:
        return {"seen": {1, 2}}


DIMENSIONS = itertools.count(1)


class ChangesItsSpec(Quadratics):
    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=next(DIMENSIONS))


BROKEN_FAMILIES: dict[type[AnyTaskFamily], set[str]] = {
    Lines: set(),
    Revisits: set(),
    Words: set(),
    Finite: set(),
    DrawsGlobally: {"sample_is_reproducible", "leaves_global_rng_alone", "state_survives_a_checkpoint"},
    CountsInItsState: {"sample_leaves_state_alone"},
    IgnoresTheKey: {"keys_matter"},
    OneTagForAll: {"leading_axis_is_the_task", "one_task_works"},
    SqueezesOneTask: {"one_task_works"},
    OtherShotsThanItSays: {"shapes_match_the_spec"},
    ClassesOutOfRange: {"shapes_match_the_spec"},
    HandsOutObjects: {"tasks_are_data"},
    HandsOutParameters: {"tasks_are_data"},
    AlwaysSingle: {"floats_follow_the_default"},
    OnAnotherDevice: {"device_follows_key"},
    WithReplacement: {"all_tasks_when_n_is_size"},
    ObservesInPlace: {"observe_is_pure"},
    StateCannotBeStored: {"state_survives_a_checkpoint"},
    ChangesItsSpec: {"spec_says_what_it_is"},
}


@pytest.mark.parametrize("cls", BROKEN_FAMILIES, ids=lambda cls: cls.__name__)
def test_a_broken_family_trips_exactly_its_checks(cls: type[AnyTaskFamily]) -> None:
    results = testing.check_task_family(cls(), on_fail="return")
    assert failed(results) == BROKEN_FAMILIES[cls], results


def test_every_check_has_a_family_that_trips_it() -> None:
    assert set(families.suite.names()) == set().union(*BROKEN_FAMILIES.values())


def test_failures_are_listed_with_one_sentence_each() -> None:
    with pytest.raises(testing.CheckFailed) as caught:
        testing.check_task_family(OneTagForAll())
    first, *lines = str(caught.value).splitlines()
    assert first == f"OneTagForAll: 2 of {len(caught.value.results)} conformance checks failed"
    assert [line.strip().partition(":")[0] for line in lines] == ["leading_axis_is_the_task", "one_task_works"]
    assert all("have a tensor of shape () in their tag" in line for line in lines)


def test_expected_failures_are_strict() -> None:
    reason = "the key is not used, see issue 7"
    results = testing.check_task_family(IgnoresTheKey(), expected_failures={"keys_matter": reason})
    assert [(r.status, r.message) for r in results if r.name == "keys_matter"] == [("expected", reason)]
    with pytest.raises(testing.CheckFailed, match="it passes, but was expected to fail"):
        testing.check_task_family(Lines(), expected_failures={"keys_matter": reason})
    with pytest.raises(testing.CheckFailed, match=r"keys_mater: .* no check of that name"):
        testing.check_task_family(Lines(), expected_failures={"keys_mater": reason})


def test_cases_hold_the_same_as_running_them_all() -> None:
    expected = {"keys_matter": "known", "one_task_works": "not so", "no_such_check": "misspelt"}
    raised = []
    for name, case in testing.cases(IgnoresTheKey(), expected_failures=expected):
        try:
            case()
        except AssertionError:
            raised.append(name)
    assert raised == ["one_task_works", "no_such_check"]
    plain = dict(testing.cases(IgnoresTheKey()))
    with pytest.raises(AssertionError, match="12 keys give the same tasks"):
        plain["keys_matter"]()


@testing.parametrize(Descent(), ProcessPool(workers=1), tasks=Quadratics(spread=1.0))
def test_every_check_is_a_test_of_its_own(check: Any, request: pytest.FixtureRequest) -> None:
    assert request.node.callspec.id.startswith(("Descent-", "ProcessPool-"))
    check()


def test_a_learner_needs_tasks() -> None:
    with pytest.raises(UserError, match="give tasks="):
        testing.cases(Descent())


def test_checks_leave_no_trace() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        testing.check_learner(Descent(), Quadratics())
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


def test_pytest_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaloop, "testing", testing)  # put back after the second import
    for name in [name for name in sys.modules if name.startswith("metaloop.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytest", None)
    again = importlib.import_module("metaloop.testing")
    assert again is not testing
    assert again.cases(again.toys.Descent(), tasks=again.toys.Quadratics())
