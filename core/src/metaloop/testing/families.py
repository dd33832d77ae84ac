"""What every task family promises: tasks are data, and a draw depends on the state and the key alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaloop import tree
from metaloop.key import Key
from metaloop.outcome import Draw, Episode, Outcome, outcome
from metaloop.precision import default_dtype
from metaloop.specs import Spec, SupervisedSpec
from metaloop.tasks import AnyTaskFamily
from metaloop.testing import components
from metaloop.testing.compare import (
    anew,
    copied,
    difference,
    expect,
    expect_same,
    global_randomness_untouched,
    stored,
)
from metaloop.testing.model import Case, CheckResult, OnFail, Suite, run

LARGEST = 10_000
"""Finite families up to this size are drawn whole."""


@dataclass(frozen=True)
class Source:
    """A family under test."""

    family: AnyTaskFamily

    @property
    def few(self) -> int:
        """Three tasks, or as many as there are."""
        return min(3, self.family.size or 3)

    def begin(self) -> Any:
        """The family's first state."""
        return self.family.begin(Key.of(0))

    def draw(self, n: int | None = None, seed: int = 0) -> Draw[Any]:
        """Tasks from the first state."""
        return self.family.sample(self.begin(), self.few if n is None else n, Key.of(seed))


suite = Suite[Source]()


def cases(family: AnyTaskFamily) -> Iterator[Case]:
    """The checks of a family, with those of every component."""
    yield from components.suite.cases(family)
    yield from suite.cases(Source(family))


def check_task_family(
    family: AnyTaskFamily, *, expected_failures: Mapping[str, str] | None = None, on_fail: OnFail = "raise"
) -> list[CheckResult]:
    """Check what every task family promises.

    Args:
        family: a small instance.
        expected_failures: check name -> reason; a check named here that passes counts as failed.
        on_fail: `"raise"`, or `"return"` to have the failures among the results.

    Raises:
        CheckFailed: a check failed.
    """
    return run(type(family).__name__, cases(family), expected_failures, on_fail)


def some_outcome(n: int) -> Outcome:
    """An outcome of `n` tasks whose lives have ended."""
    return outcome(loss=Key.of(7).uniform(n))._replace(done=torch.ones(n, dtype=torch.bool))


@suite.check
def spec_says_what_it_is(source: Source) -> None:
    """The spec is a frozen, hashable value, equal each time."""
    spec = source.family.spec
    expect(isinstance(spec, Spec), f"spec is a {type(spec).__name__}, not a Spec")
    expect(
        hash(spec) == hash(source.family.spec) and spec == source.family.spec, "spec differs from one look to the next"
    )


@suite.check
def sample_is_reproducible(source: Source) -> None:
    """The same state and key give the same draw."""
    expect_same(source.draw(), source.draw(), "two draws from one state and key differ")


@suite.check
def sample_leaves_state_alone(source: Source) -> None:
    """Sampling does not change the state it is given."""
    state = source.begin()
    before = copied(state)
    source.family.sample(state, source.few, Key.of(0))
    expect_same(before, state, "sample changed the state it was given")


@suite.when(lambda source: source.family.size != 1)
def keys_matter(source: Source) -> None:
    """Other keys give other tasks."""
    size = source.family.size
    n = source.few if size is None else min(3, size - 1)
    draws = [source.draw(n, seed) for seed in range(12)]  # a small finite family may repeat itself a few times
    same = all(difference(draws[0].tasks, draw.tasks) is None for draw in draws[1:])
    expect(not same, "12 keys give the same tasks")


@suite.check
def leaves_global_rng_alone(source: Source) -> None:
    """All randomness comes from the key."""
    with global_randomness_untouched():
        state = source.begin()
        draw = source.family.sample(state, source.few, Key.of(0))
        source.family.observe(state, draw, some_outcome(source.few))


@suite.check
def leading_axis_is_the_task(source: Source) -> None:
    """`n` tasks have `n` rows everywhere, tags included."""
    n = source.few
    _expect_rows(source.draw(n), n)


@suite.check
def one_task_works(source: Source) -> None:
    """A single task is a batch of one."""
    _expect_rows(source.draw(1), 1)


def _expect_rows(draw: Draw[Any], n: int) -> None:
    expect(isinstance(draw, Draw), f"sample gives a {type(draw).__name__}, not a Draw")
    if isinstance(draw.tasks, list):
        expect(len(draw.tasks) == n, f"{n} tasks were asked for and {len(draw.tasks)} came")
    else:
        _expect_leading(draw.tasks, n, "tasks")
    if draw.tag is not None:
        _expect_leading(draw.tag, n, "tag")


def _expect_leading(part: Any, n: int, what: str) -> None:
    for leaf in tree.leaves(part):
        if isinstance(leaf, Tensor):
            expect(leaf.shape[:1] == (n,), f"{n} tasks have a tensor of shape {tuple(leaf.shape)} in their {what}")


@suite.check
def tasks_are_data(source: Source) -> None:
    """Tasks are tensors without a graph, or a list of plain JSON values."""
    tasks = source.draw().tasks
    if isinstance(tasks, list):
        try:
            json.dumps(tasks)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"object tasks must be plain JSON values: {error}") from error
        return
    found = tree.leaves(tasks)
    expect(bool(found), "there is nothing in the tasks")
    for leaf in found:
        expect(isinstance(leaf, Tensor), f"tasks hold a {type(leaf).__name__} beside tensors")
        expect(not leaf.requires_grad, "a task's tensor hangs on an autograd graph")


@suite.when(lambda source: isinstance(source.family.spec, SupervisedSpec))
def shapes_match_the_spec(source: Source) -> None:
    """Episodes have the shapes and types that the spec promises."""
    spec, n, episode = source.family.spec, source.few, source.draw().tasks
    assert isinstance(spec, SupervisedSpec)
    expect(isinstance(episode, Episode), f"the tasks of a SupervisedSpec are Episodes, not {type(episode).__name__}")
    for part, rows in (("support", spec.shots), ("query", spec.queries)):
        x, y = getattr(episode, f"{part}_x"), getattr(episode, f"{part}_y")
        expect(
            x.shape == (n, rows, *spec.inputs),
            f"{part}_x has shape {tuple(x.shape)}, the spec says {(n, rows, *spec.inputs)}",
        )
        shape = (n, rows) if spec.target == "class" else (n, rows, spec.outputs)
        expect(y.shape == shape, f"{part}_y has shape {tuple(y.shape)}, the spec says {shape}")
        if spec.target == "class":
            expect(y.dtype == torch.int64, f"{part}_y holds classes as {y.dtype}, not int64")
            expect(bool(((y >= 0) & (y < spec.outputs)).all()), f"{part}_y has classes outside [0, {spec.outputs})")
        else:
            expect(y.is_floating_point(), f"{part}_y holds real targets as {y.dtype}")


@suite.check
def device_follows_key(source: Source) -> None:
    """Tensors are made where the key is."""
    for name in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        key = Key.of(0, name)
        draw = source.family.sample(source.family.begin(key), source.few, key)
        for leaf in tree.leaves((draw.tasks, draw.tag)):
            if isinstance(leaf, Tensor):
                expect(leaf.device == key.device, f"a tensor is on {leaf.device} for a key on {key.device}")


@suite.check
def floats_follow_the_default(source: Source) -> None:
    """Floating-point tensors have torch's default type, whichever that is."""
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            fresh = Source(anew(source.family))
            found = {leaf.dtype for leaf in tree.leaves(fresh.draw().tasks) if isinstance(leaf, Tensor)}
        odd = [other for other in found if other.is_floating_point and other != dtype]
        expect(not odd, f"tasks hold {odd[0] if odd else ''} where the default is {dtype}")


@suite.when(lambda source: source.family.size is not None and source.family.size <= LARGEST)
def all_tasks_when_n_is_size(source: Source) -> None:
    """A finite family gives each of its tasks once when `n == size`, whatever the key."""
    size = source.family.size
    assert size is not None
    expect(size >= 1, f"size is {size}")
    one, other = (sorted(_row_names(source.draw(size, seed), size)) for seed in (0, 1))
    expect(one == other, f"n == size == {size} does not give the same set of tasks for every key")


def _row_names(draw: Draw[Any], n: int) -> list[str]:
    """Each row as text; by its tag where it has one, for its data may hold fresh noise."""
    if draw.tag is None and isinstance(draw.tasks, list):
        return [json.dumps(task, sort_keys=True) for task in draw.tasks]
    what = draw.tasks if draw.tag is None else draw.tag
    return [str([leaf[i].tolist() for leaf in tree.leaves(what)]) for i in range(n)]


@suite.check
def observe_is_pure(source: Source) -> None:
    """What was observed goes into a new state; the old one stays as it was."""
    state = source.begin()
    draw = source.family.sample(state, source.few, Key.of(0))
    before = copied((state, draw))
    one, other = (source.family.observe(state, draw, some_outcome(source.few)) for _ in range(2))
    expect_same(before, (state, draw), "observe changed the state or the draw it was given")
    expect_same(one, other, "two observations of the same outcome differ")


@suite.check
def state_survives_a_checkpoint(source: Source) -> None:
    """A state that has observed can be stored, and samples the same afterwards."""
    state = source.begin()
    draw = source.family.sample(state, source.few, Key.of(0))
    state = source.family.observe(state, draw, some_outcome(source.few))
    again = stored(state)
    expect_same(state, again, "the state is not the same after a checkpoint")
    one, other = (source.family.sample(s, source.few, Key.of(1)) for s in (state, again))
    expect_same(one, other, "the family samples differently after a checkpoint")
