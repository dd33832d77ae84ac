"""What every learner promises: a life depends on theta, its task and its key alone, and on what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from metaloop import tree
from metaloop.errors import Incompatible
from metaloop.learner import Adapts, AnyLearner, Predicts
from metaloop.precision import default_dtype
from metaloop.specs import Spec, SupervisedSpec
from metaloop.tasks import AnyTaskFamily
from metaloop.testing import components, gradients
from metaloop.testing.compare import (
    copied,
    difference,
    expect,
    expect_same,
    global_randomness_untouched,
    rows_of,
    seed_everything,
    stored,
)
from metaloop.testing.model import Case, CheckResult, OnFail, Suite, run
from metaloop.testing.pair import DOUBLE, SINGLE, Pair


class UnrelatedSpec(Spec):
    """A kind of task that no learner knows."""


suite = Suite[Pair]()


def cases(learner: AnyLearner, tasks: AnyTaskFamily) -> Iterator[Case]:
    """The checks of a learner, with those of every component."""
    yield from components.suite.cases(learner)
    yield from suite.cases(Pair(learner, tasks))
    yield from gradients.suite.cases(Pair(learner, tasks))


def check_learner(
    learner: AnyLearner,
    tasks: AnyTaskFamily,
    *,
    expected_failures: Mapping[str, str] | None = None,
    on_fail: OnFail = "raise",
) -> list[CheckResult]:
    """Check what every learner promises, and what this one declares.

    Args:
        learner: a small instance with few steps.
        tasks: a small family that it accepts.
        expected_failures: check name -> reason; a check named here that passes counts as failed.
        on_fail: `"raise"`, or `"return"` to have the failures among the results.

    Raises:
        CheckFailed: a check failed.
    """
    return run(type(learner).__name__, cases(learner, tasks), expected_failures, on_fail)


@suite.check
def accepts_the_tasks(pair: Pair) -> None:
    """`check` accepts the spec of tasks that the learner is for."""
    pair.learner.check(pair.family.spec)


@suite.check
def refuses_other_specs(pair: Pair) -> None:
    """`check` refuses a kind of task that it does not know, and says why."""
    try:
        pair.learner.check(UnrelatedSpec())
    except Incompatible as error:
        expect(bool(str(error).strip()), "check refuses an unrelated spec without saying why")
        return
    raise AssertionError(
        "check accepts a spec that it can't know: raise Incompatible unless the spec is one it handles"
    )


@suite.check
def init_is_reproducible(pair: Pair) -> None:
    """The same spec and key give the same theta."""
    expect_same(pair.theta(), pair.theta(), "two thetas from one key differ")


@suite.check
def theta_is_of_its_kind(pair: Pair) -> None:
    """`tensors`: a flat dict of tensors; `object`: what a checkpoint holds; `none`: nothing."""
    theta, kind = pair.theta(), pair.learner.theta_kind
    if kind == "none":
        expect(theta == {}, f"theta_kind is 'none', but init gives {theta!r}")
    elif kind == "object":
        expect_same(theta, stored(theta), "theta is not the same after a checkpoint")
    else:
        expect(theta != {}, "theta is empty: set theta_kind = 'none' where there is nothing to meta-learn")
        expect(type(theta) is dict, f"theta_kind is 'tensors', but init gives a {type(theta).__name__}")
        for name, value in theta.items():
            expect(isinstance(name, str), f"theta has the name {name!r}, which is not text")
            expect(
                isinstance(value, Tensor),
                f"theta[{name!r}] is a {type(value).__name__}: theta is a flat dict of tensors",
            )
            expect(not value.requires_grad, f"theta[{name!r}] requires grad: the objective takes gradients itself")


@suite.check
def leaves_global_rng_alone(pair: Pair) -> None:
    """All randomness comes from keys."""
    with global_randomness_untouched():
        pair.live(pair.theta())


@suite.check
def ignores_global_rng(pair: Pair) -> None:
    """The same key gives the same life, whatever the global generators hold."""
    found = []
    for seed in (0, 1):
        seed_everything(seed)
        theta = pair.theta()
        found.append((theta, rows_of(pair.live(theta))))
    expect_same(found[0], found[1], "lives differ with the global random state")


@suite.check
def inputs_are_left_alone(pair: Pair) -> None:
    """Theta and tasks are as before after a life."""
    objective, theta = pair.objective(), pair.theta()
    before = copied((theta, objective.draw.tasks))
    objective(theta)
    expect_same(before[0], theta, "a life changed theta")
    expect_same(before[1], objective.draw.tasks, "a life changed its tasks")


@suite.check
def outcome_has_a_row_per_task(pair: Pair) -> None:
    """Loss, fitness and every metric are finite numbers, one per task."""
    out = pair.live(pair.theta())
    for name, value in {"loss": out.loss, "fitness": out.fitness, **out.metrics}.items():
        expect(value.shape == (pair.n,), f"{name} of {pair.n} tasks has shape {tuple(value.shape)}, not {(pair.n,)}")
        finite = bool(torch.isfinite(value).all())
        expect(finite or name in out.metrics, f"{name} of a first theta is not finite")
    expect(out.loss.is_floating_point() and out.fitness.is_floating_point(), "loss and fitness must be floats")
    expect(out.info is None or len(out.info) == pair.n, "info must have one entry per task")


@suite.check
def batch_equals_one_by_one(pair: Pair) -> None:
    """A task's life is the same alone as in a batch, with its randomness."""
    for dtype, tolerance in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
        with default_dtype(dtype):
            there = pair.anew()
            theta = there.theta()
            together = there.live(theta)
            if together.loss.dtype != dtype:  # for `float64_works` to report
                continue
            for i in range(there.n):
                alone = there.live(theta, slice(i, i + 1))
                row = tree.index(rows_of(together), slice(i, i + 1))
                expect_same(rows_of(alone), row, f"task {i} alone is not as in a batch", tolerance)


@suite.check
def live_equals_unroll(pair: Pair) -> None:
    """A whole life is the same as begin, every step and evaluate one after the other."""
    theta, objective = pair.theta(), pair.objective()
    out, carry = objective.unroll(theta, None, pair.longest, measure="end")
    expect_same(rows_of(objective(theta)), rows_of(out), "a life in one go and step by step differ", SINGLE)
    expect(out.done is not None and bool(out.done.all()), "lives are not done after their last step")
    expect_same(carry.clock.step, carry.clock.lifetime, "lives did not take as many steps as their lifetime")


@suite.check
def lifetime_is_kept(pair: Pair) -> None:
    """A lifetime is a count of steps per task, and nothing changes past it."""
    objective, theta = pair.objective(), pair.theta()
    lifetime = pair.learner.lifetime(objective.draw.tasks)
    if isinstance(lifetime, int):
        expect(lifetime >= 0, f"lifetime is {lifetime}")
    else:
        right = lifetime.shape == (pair.n,) and lifetime.dtype == torch.int64
        expect(right, f"lifetime is {tuple(lifetime.shape)} {lifetime.dtype}, not [task] int64")
        expect(bool((lifetime >= 0).all()), "a lifetime is negative")
    if pair.longest == 0:  # such a learner need not have steps
        return
    at_end, _ = objective.unroll(theta, None, pair.longest, measure="end")
    later, carry = objective.unroll(theta, None, pair.longest + 2, measure="end")
    expect(bool((carry.clock.step <= carry.clock.lifetime).all()), "lives go on past their lifetime")
    expect_same(rows_of(at_end), rows_of(later), "an outcome changed after the end of life")


@suite.when(lambda pair: pair.longest > 1)
def evaluation_changes_nothing(pair: Pair) -> None:
    """A life that is evaluated on the way ends like one that is not."""
    objective, theta = pair.objective(), pair.theta()
    quiet, _ = objective.unroll(theta, None, pair.longest, measure="end")
    _, carry = objective.unroll(theta, None, pair.longest, measure="each")
    with torch.no_grad():
        watched = pair.learner.measure(theta, carry.state, carry.draw.tasks, carry.clock, carry.keys)
    expect_same(rows_of(quiet), rows_of(watched), "evaluate changed the life that it looked at", SINGLE)


@suite.check
def state_survives_a_checkpoint(pair: Pair) -> None:
    """A stored life goes on bit for bit as it would have."""
    objective, theta = pair.objective(), pair.theta()
    first = min(1, pair.longest)
    _, like = objective.unroll(theta, None, first)
    _, carry = objective.unroll(theta, None, first)
    back = stored(carry, like)
    ends = []
    with torch.no_grad():
        for life in (back, carry):
            state, clock = life.state, life.clock
            if pair.longest > 1:
                state, clock = pair.learner.carry_on(theta, state, life.draw.tasks, clock, life.keys)
            ends.append(rows_of(pair.learner.measure(theta, state, life.draw.tasks, clock, life.keys)))
    expect_same(ends[1], ends[0], "a life goes on differently after a checkpoint")


@suite.check
def float64_works(pair: Pair) -> None:
    """With float64 as the default, theta and outcomes are float64."""
    with default_dtype(torch.float64):
        there = pair.anew()
        theta = there.theta()
        out = there.live(theta)
        if there.learner.theta_kind == "tensors":
            for name, value in theta.items():
                odd = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
                expect(not odd, f"theta[{name!r}] is not float64 where that is the default")
        expect(out.loss.dtype == torch.float64, f"the loss is {out.loss.dtype} where the default is float64")


@suite.when(lambda pair: isinstance(pair.learner, Adapts))
def adapted_has_a_task_axis(pair: Pair) -> None:
    """`adapted` gives theta's names, each tensor with a leading task axis."""
    theta = pair.theta()
    adapted, _ = pair.objective().adapt(theta)
    expect(list(adapted) == list(theta), f"adapted gives the names {list(adapted)}, theta has {list(theta)}")
    for name, value in theta.items():
        shape = (pair.n, *value.shape)
        expect(adapted[name].shape == shape, f"adapted[{name!r}] has shape {tuple(adapted[name].shape)}, not {shape}")


@suite.when(lambda pair: isinstance(pair.learner, Predicts) and isinstance(pair.family.spec, SupervisedSpec))
def predicts_the_outputs(pair: Pair) -> None:
    """`predict` gives `[task, n, outputs]` at new inputs, and the same each time."""
    learner, spec, objective, theta = pair.learner, pair.family.spec, pair.objective(), pair.theta()
    assert isinstance(learner, Predicts)
    assert isinstance(spec, SupervisedSpec)
    _, carry = objective.unroll(theta, None, pair.longest, measure="end")
    inputs = carry.draw.tasks.query_x
    with torch.no_grad():
        once, twice = (learner.predict(theta, carry.state, inputs, carry.keys) for _ in range(2))
    shape = (pair.n, spec.queries, spec.outputs)
    expect(once.shape == shape, f"predict gives shape {tuple(once.shape)}, not {shape}")
    expect(difference(once, twice) is None, "two predictions from one state and key differ")
