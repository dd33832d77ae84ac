"""What every meta-optimizer promises: a pure outer step that keeps theta's form, resumes exactly, and improves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from metaloop.engine import Engine
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.learner import Adapts, AnyLearner
from metaloop.meta_optimizer import AnyMetaOptimizer
from metaloop.objective import TaskObjective
from metaloop.outcome import Measure, Outcome
from metaloop.precision import default_dtype
from metaloop.tasks import AnyTaskFamily
from metaloop.testing import components
from metaloop.testing.compare import (
    copied,
    difference,
    expect,
    expect_no_graph,
    expect_no_growth,
    expect_same,
    global_randomness_untouched,
    rows_of,
    seed_everything,
    stored,
)
from metaloop.testing.model import Case, CheckResult, OnFail, Suite, run
from metaloop.testing.toys import Climb, Descent, Fit, Guess, Lines, Lives, Quadratics, Text, Words

TASKS = 4


class Outer(NamedTuple):
    """What an outer step gives."""

    theta: Any
    state: Any
    outcome: Outcome


class Declared(TaskObjective[Any]):
    """An objective that holds a meta-optimizer to what the learner declares."""

    def grad(self, theta: Any) -> tuple[Any, Outcome]:
        """As in the core, for a differentiable learner."""
        self._expect_differentiable()
        return super().grad(theta)

    def unroll_grad(
        self, theta: Any, carry: Any | None, k: int, *, measure: Measure = "each"
    ) -> tuple[Any, Outcome, Any]:
        """As in the core, for a differentiable learner."""
        self._expect_differentiable()
        return super().unroll_grad(theta, carry, k, measure=measure)

    def _expect_differentiable(self) -> None:
        name = type(self.learner).__name__
        expect(
            self.learner.differentiable,
            f"it takes gradients of {name}, which is not differentiable: use needs_gradient",
        )


@dataclass(frozen=True)
class Trio:
    """A meta-optimizer under test, with a learner and tasks for it."""

    meta_optimizer: AnyMetaOptimizer
    learner: AnyLearner
    family: AnyTaskFamily
    factor: float
    outer_steps: int

    def objective(self, step: int, n: int = TASKS) -> TaskObjective[Any]:
        """Other tasks at each outer step."""
        return Declared(Engine(self.learner), self.family, self.family.begin(Key.of(1)), n, Key.of(2).fold(step))

    def begin(self) -> tuple[Any, Any]:
        """First theta and state."""
        theta = self.learner.init(self.family.spec, Key.of(0))
        return theta, self.meta_optimizer.begin(theta, Key.of(3))

    def advance(self, theta: Any, state: Any, steps: range, n: int = TASKS) -> Outer:
        """Some outer steps; the last one's outcome."""
        outer = None
        for k in steps:
            outer = Outer(*self.meta_optimizer.step(theta, state, self.objective(k, n), Key.of(4).fold(k)))
            theta, state = outer.theta, outer.state
        assert outer is not None
        return outer


suite = Suite[Trio]()


def cases(
    meta_optimizer: AnyMetaOptimizer,
    learner: AnyLearner | None = None,
    tasks: AnyTaskFamily | None = None,
    *,
    factor: float = 0.9,
    outer_steps: int = 50,
) -> Iterator[Case]:
    """The checks of a meta-optimizer, with those of every component."""
    if (learner is None) != (tasks is None):
        raise UserError("give a learner and tasks together, or neither to use the toy ones")
    trio = Trio(meta_optimizer, learner or Descent(), tasks or Quadratics(), factor, outer_steps)
    yield from components.suite.cases(meta_optimizer)
    yield from suite.cases(trio)


def check_meta_optimizer(
    meta_optimizer: AnyMetaOptimizer,
    learner: AnyLearner | None = None,
    tasks: AnyTaskFamily | None = None,
    *,
    factor: float = 0.9,
    outer_steps: int = 50,
    expected_failures: Mapping[str, str] | None = None,
    on_fail: OnFail = "raise",
) -> list[CheckResult]:
    """Check what every meta-optimizer promises.

    Args:
        meta_optimizer: with settings that suit the learner.
        learner: a small learner that it accepts; gradient descent with a learned start and rate where left out.
        tasks: tasks of that learner; small quadratic functions where left out.
        factor: the mean loss on other tasks falls to this share of the first, or below, ...
        outer_steps: ... within so many outer steps. Where the first loss is negative the share counts from its size.
        expected_failures: check name -> reason; a check named here that passes counts as failed.
        on_fail: `"raise"`, or `"return"` to have the failures among the results.

    Raises:
        CheckFailed: a check failed.
    """
    found = cases(meta_optimizer, learner, tasks, factor=factor, outer_steps=outer_steps)
    return run(type(meta_optimizer).__name__, found, expected_failures, on_fail)


@suite.check
def accepts_the_learner(trio: Trio) -> None:
    """`check` accepts a learner that it is for."""
    trio.learner.check(trio.family.spec)
    trio.meta_optimizer.check(trio.learner)


@suite.check
def refuses_nothing_to_learn(trio: Trio) -> None:
    """`check` refuses a learner without meta-parameters."""
    try:
        trio.meta_optimizer.check(Climb())
    except Incompatible as error:
        expect(bool(str(error).strip()), "check refuses a learner without saying why")
        return
    raise AssertionError("check accepts a learner with theta_kind 'none', which has nothing to meta-learn")


@suite.check
def works_with_what_it_accepts(trio: Trio) -> None:
    """Every learner that `check` accepts can take an outer step, by what it declares."""
    others: tuple[tuple[AnyLearner, AnyTaskFamily], ...] = (
        (Descent(), Quadratics()),
        (Lives(), Quadratics()),
        (Guess(), Quadratics()),
        (Fit(), Lines()),
        (Text(), Words()),
    )
    for learner, family in others:
        try:
            trio.meta_optimizer.check(learner)
        except Incompatible:
            continue
        other = replace(trio, learner=learner, family=family)
        try:
            other.advance(*other.begin(), range(2))
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise AssertionError(f"check accepts {_described(learner)}, but a step fails: {what}") from error


def _described(learner: AnyLearner) -> str:
    facts = [f"a theta of {learner.theta_kind}"]
    facts += [] if learner.differentiable else ["no gradient"]
    facts += [] if learner.stackable else ["no stacking"]
    facts += [] if isinstance(learner, Adapts) else ["no adapted theta"]
    return f"{type(learner).__name__} ({', '.join(facts)})"


@suite.check
def step_is_reproducible(trio: Trio) -> None:
    """The same theta, state, objective and key give the same step."""
    theta, state = trio.begin()
    first = trio.advance(theta, state, range(1))
    found = [trio.advance(first.theta, first.state, range(1, 2)) for _ in range(2)]
    one, other = ((outer.theta, outer.state, rows_of(outer.outcome)) for outer in found)
    expect_same(one, other, "two steps from the same inputs differ")


@suite.check
def inputs_are_left_alone(trio: Trio) -> None:
    """Theta and the state are as before after a step."""
    theta, state = trio.begin()
    for k in range(2):
        before = copied((theta, state))
        outer = trio.advance(theta, state, range(k, k + 1))
        expect_same(before[0], theta, "a step changed the theta that it was given")
        expect_same(before[1], state, "a step changed the state that it was given")
        theta, state = outer.theta, outer.state


@suite.check
def leaves_global_rng_alone(trio: Trio) -> None:
    """All randomness comes from the key."""
    with global_randomness_untouched():
        trio.advance(*trio.begin(), range(2))


@suite.check
def ignores_global_rng(trio: Trio) -> None:
    """The same key gives the same step, whatever the global generators hold."""
    found = []
    for seed in (0, 1):
        seed_everything(seed)
        found.append(trio.advance(*trio.begin(), range(2)).theta)
    expect_same(found[0], found[1], "steps differ with the global random state")


@suite.when(lambda trio: trio.learner.theta_kind == "tensors")
def theta_keeps_its_form(trio: Trio) -> None:
    """Names, shapes and types of theta stay; nothing hangs on a graph; in float64 too."""
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            theta, state = trio.begin()
            after = trio.advance(theta, state, range(2)).theta
        expect(type(after) is dict, f"theta becomes a {type(after).__name__}")
        expect(list(after) == list(theta), f"theta's names {list(theta)} become {list(after)}")
        for name, value in theta.items():
            for aspect in ("shape", "dtype", "device"):
                was, came = getattr(value, aspect), getattr(after[name], aspect)
                expect(was == came, f"the {aspect} of theta[{name!r}] was {was} and becomes {came}")
        expect_no_graph(after, "theta")


@suite.check
def outcome_has_a_row_per_task(trio: Trio) -> None:
    """Curricula get one row per task of the objective, without a graph; one task works too."""
    for n in (TASKS, 1):
        out = trio.advance(*trio.begin(), range(2), n).outcome
        for name, value in {"loss": out.loss, "fitness": out.fitness, **out.metrics}.items():
            expect(value.shape == (n,), f"{name} of an objective of {n} tasks has shape {tuple(value.shape)}")
        expect_no_graph(rows_of(out), "the outcome")


@suite.check
def resumes_exactly(trio: Trio) -> None:
    """Theta and the state can be stored, and go on bit for bit as they would have."""
    half = trio.advance(*trio.begin(), range(2))
    like = trio.advance(*trio.begin(), range(2))
    back = stored({"theta": half.theta, "state": half.state}, {"theta": like.theta, "state": like.state})
    straight = trio.advance(half.theta, half.state, range(2, 4))
    resumed = trio.advance(back["theta"], back["state"], range(2, 4))
    expect_same(
        (straight.theta, straight.state), (resumed.theta, resumed.state), "steps go on differently after a checkpoint"
    )


@suite.check
def spends_through_the_objective(trio: Trio) -> None:
    """Every outer step is counted by the objective."""
    theta, state = trio.begin()
    for k in range(2):
        objective = trio.objective(k)
        theta, state, _ = trio.meta_optimizer.step(theta, state, objective, Key.of(4).fold(k))
        expect(objective.spent.evaluations > 0, "a step spends nothing: run lives through the objective only")


@suite.check
def keeps_no_tensors(trio: Trio) -> None:
    """Outer steps leave nothing behind in memory."""
    theta, state = trio.begin()
    outer = trio.advance(theta, state, range(2))
    expect_no_growth(lambda: trio.advance(outer.theta, outer.state, range(2, 3)), "outer steps")


@suite.check
def improves(trio: Trio) -> None:
    """The loss on other tasks falls by the stated factor."""
    theta, state = trio.begin()
    judge = trio.objective(-1, 32)
    before = float(judge(theta).loss.mean())
    after = trio.advance(theta, state, range(trio.outer_steps))
    expect(difference(theta, after.theta) is not None, f"theta is the same after {trio.outer_steps} steps")
    loss = float(judge(after.theta).loss.mean())
    goal = before - (1 - trio.factor) * abs(before)
    expect(
        loss <= goal, f"the loss went from {before:.4g} to {loss:.4g} in {trio.outer_steps} steps, not below {goal:.4g}"
    )
