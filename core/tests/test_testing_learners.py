"""The learner checks: real learners pass all of them, each broken one trips exactly the checks for its fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from metaloop import testing
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import AnyLearner, Learner
from metaloop.outcome import Clock, Outcome, outcome
from metaloop.specs import Spec
from metaloop.tasks import AnyTaskFamily
from metaloop.testing import gradients, learners
from metaloop.testing.toys import (
    Climb,
    Descent,
    Fit,
    Guess,
    Lines,
    Lives,
    NoisyDescent,
    Quadratic,
    Quadratics,
    Revisits,
    Text,
    Walker,
    Words,
)
from torch import Tensor


class InContext(Learner[dict[str, Tensor], Quadratic, Tensor]):
    """Reads its task and has no steps."""

    def check(self, spec: Spec) -> None:
        Descent().check(spec)

    def init(self, spec: Spec, key: Key) -> dict[str, Tensor]:
        return {"scale": torch.ones(())}

    def begin(self, theta: dict[str, Tensor], tasks: Quadratic, keys: Key) -> Tensor:
        return tasks.center

    def evaluate(self, theta: dict[str, Tensor], state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        return outcome(loss=((theta["scale"] * state - 0.5 * tasks.center) ** 2).sum(-1))


REAL: list[tuple[AnyLearner, AnyTaskFamily]] = [
    (Descent(lr=0.02), Quadratics()),
    (Descent(steps=0), Quadratics(dimension=1)),
    (InContext(), Quadratics()),
    (NoisyDescent(), Revisits()),
    (Lives(steps=4), Quadratics(dimension=3)),
    (Guess(), Quadratics()),
    (Fit(), Lines(shots=3)),
    (Climb(), Words()),
    (Text(letters=4), Revisits(inner=Words())),
]


@pytest.mark.parametrize(("learner", "tasks"), REAL, ids=lambda part: type(part).__name__)
def test_real_learners_conform(learner: AnyLearner, tasks: AnyTaskFamily) -> None:
    assert len(testing.check_learner(learner, tasks)) >= 24


class DrawsGlobally(Guess):
    def init(self, spec: Spec, key: Key) -> Any:
        return {"start": super().init(spec, key)["start"] + torch.randn(())}


class DrawsFromNumPy(Guess):
    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        return super().begin(theta, tasks, keys) + np.random.rand()


class SeedsGlobally(Guess):
    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        torch.manual_seed(0)
        return super().begin(theta, tasks, keys) + torch.rand(())


class ReadsTheGlobalSeed(Guess):
    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        return super().begin(theta, tasks, keys) + torch.initial_seed() % 3


class OneKeyForAll(Guess):
    """What is wrong with one key per batch: a row's noise depends on its place."""

    def step(self, theta: Any, state: Tensor, tasks: Quadratic, clock: Clock, keys: Key) -> Tensor:
        return state + keys[0].normal(*state.shape)


class NormalisesOverTasks(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        loss = super().evaluate(theta, state, tasks, keys).loss
        return outcome(loss=loss - loss.mean())


class LifetimeOfTheBatch(Lives):
    def lifetime(self, tasks: Quadratic) -> Tensor:
        return super().lifetime(tasks).max().expand(len(tasks.allowed))


class LifetimeAsFloat(Lives):
    def lifetime(self, tasks: Quadratic) -> Tensor:
        return super().lifetime(tasks).float()


class LivesForever(Lives):
    def carry_on(
        self, theta: Any, state: Tensor, tasks: Quadratic, clock: Clock, keys: Key, *, all_alive: bool = False
    ) -> tuple[Tensor, Clock]:
        new = self.step(theta, state, tasks, clock, keys.fold("step").fold(clock.step))
        return new, clock._replace(step=torch.minimum(clock.step + 1, clock.lifetime))


class MutatesTheta(Guess):
    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        theta["start"].clamp_(min=0.0)
        return super().begin(theta, tasks, keys)


class MutatesTasks(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        tasks.allowed.zero_()
        return super().evaluate(theta, state, tasks, keys)


class OneLossForAll(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        return outcome(loss=super().evaluate(theta, state, tasks, keys).loss.mean())


class NotFinite(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        return super().evaluate(theta, state, tasks, keys)._replace(fitness=torch.log(-tasks.center.abs().sum(-1)))


class LearnsWhileJudged(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        out = super().evaluate(theta, state, tasks, keys)
        state.mul_(0.9)
        return out


class NestedTheta(Guess):
    def init(self, spec: Spec, key: Key) -> Any:
        return {"layer": super().init(spec, key)}

    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        return super().begin(theta["layer"], tasks, keys)


class NothingToLearn(Guess):
    """Says that theta is tensors, and has none."""

    def init(self, spec: Spec, key: Key) -> Any:
        return {}

    def begin(self, theta: Any, tasks: Quadratic, keys: Key) -> Tensor:
        return torch.zeros_like(tasks.center)


class ThetaForNothing(Climb):
    def init(self, spec: Spec, key: Key) -> Any:
        return {"word": torch.zeros(3)}


class ThetaRequiresGrad(Descent):
    def init(self, spec: Spec, key: Key) -> Any:
        return {name: value.requires_grad_() for name, value in super().init(spec, key).items()}


class SingleTheta(Guess):
    def init(self, spec: Spec, key: Key) -> Any:
        return {"start": super().init(spec, key)["start"].float()}


class SingleLoss(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        return outcome(loss=super().evaluate(theta, state, tasks, keys).loss.float())


class AcceptsAnything(Descent):
    def check(self, spec: Spec) -> None:
        pass


class RefusesWithoutAReason(Descent):
    def check(self, spec: Spec) -> None:
        try:
            super().check(spec)
        except Incompatible:
            raise Incompatible("") from None


class RefusesEverything(Descent):
    def check(self, spec: Spec) -> None:
        raise Incompatible("not today")


class CutsTheGradient(Descent):
    """Declared differentiable, but the learning rate gets no gradient."""

    def step_one(self, theta: Any, state: Tensor, task: Quadratic, clock: Clock, key: Key) -> Tensor:
        return super().step_one({**theta, "log_lr": theta["log_lr"].detach()}, state, task, clock, key)


class BranchesOnTheta(Descent):
    """Declared stackable, but `vmap` can't branch on data."""

    def begin_one(self, theta: Any, task: Quadratic, key: Key) -> Tensor:
        start: Tensor = theta["start"]
        return start if bool(theta["log_lr"] < 100) else start * 0


KEPT: list[Tensor] = []


class KeepsOutcomes(Guess):
    def evaluate(self, theta: Any, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        out = super().evaluate(theta, state, tasks, keys)
        KEPT.append(out.loss)
        return out


class StepsTwoWays(NoisyDescent):
    """The batched step, which unrolls use, is not the step that whole lives use."""

    def step(self, theta: Any, state: Tensor, tasks: Quadratic, clock: Clock, keys: Key) -> Tensor:
        return super().step(theta, state, tasks, clock, keys) * 0.9


class AdaptedForOneTask(Descent):
    def adapted(self, theta: Any, state: Tensor) -> Any:
        return {"start": state, "log_lr": theta["log_lr"]}


class PredictsFlat(Fit):
    def predict(self, theta: Any, state: Any, inputs: Tensor, keys: Key) -> Tensor:
        return super().predict(theta, state, inputs, keys).squeeze(-1)


class Forgetful(Walker):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.word = "a" * len(state["word"])


class Forgets(Climb):
    def begin_one(self, theta: Any, task: Any, key: Key) -> Walker:
        return Forgetful("h" * len(task["word"]))


class Bag:
    """Nothing that a checkpoint can hold."""

    def __init__(self) -> None:
        self.word = ""


class CannotBeStored(Climb):
    def begin_one(self, theta: Any, task: Any, key: Key) -> Any:
        bag = Bag()
        bag.word = "h" * len(task["word"])
        return bag


class ThetaCannotBeStored(Text):
    def init(self, spec: Spec, key: Key) -> Any:
        return {super().init(spec, key)}

    def begin_one(self, theta: Any, task: Any, key: Key) -> Walker:
        return super().begin_one(next(iter(theta)), task, key)


BROKEN: dict[type[AnyLearner], set[str]] = {
    DrawsGlobally: {"init_is_reproducible", "leaves_global_rng_alone", "ignores_global_rng"},
    DrawsFromNumPy: {
        "leaves_global_rng_alone",
        "ignores_global_rng",
        "batch_equals_one_by_one",
        "live_equals_unroll",
        "lifetime_is_kept",
        "evaluation_changes_nothing",
    },
    SeedsGlobally: {"leaves_global_rng_alone"},
    ReadsTheGlobalSeed: {"ignores_global_rng"},
    OneKeyForAll: {"batch_equals_one_by_one"},
    NormalisesOverTasks: {"batch_equals_one_by_one"},
    LifetimeOfTheBatch: {"batch_equals_one_by_one", "stacked_equals_one_by_one"},
    LifetimeAsFloat: {"lifetime_is_kept"},
    LivesForever: {"live_equals_unroll", "lifetime_is_kept", "unrolled_gradient_equals_whole"},
    MutatesTheta: {"inputs_are_left_alone"},
    MutatesTasks: {"inputs_are_left_alone"},
    OneLossForAll: {"outcome_has_a_row_per_task", "batch_equals_one_by_one"},
    NotFinite: {"outcome_has_a_row_per_task"},
    LearnsWhileJudged: {"evaluation_changes_nothing"},
    NestedTheta: {"theta_is_of_its_kind"},
    NothingToLearn: {"theta_is_of_its_kind"},
    ThetaForNothing: {"theta_is_of_its_kind"},
    ThetaCannotBeStored: {"theta_is_of_its_kind"},
    ThetaRequiresGrad: {"theta_is_of_its_kind"},
    SingleTheta: {"float64_works"},
    SingleLoss: {"float64_works"},
    AcceptsAnything: {"refuses_other_specs"},
    RefusesWithoutAReason: {"refuses_other_specs"},
    RefusesEverything: {"accepts_the_tasks"},
    CutsTheGradient: {"gradient_equals_differences"},
    BranchesOnTheta: {"stacked_equals_one_by_one"},
    KeepsOutcomes: {"keeps_no_tensors"},
    StepsTwoWays: {"live_equals_unroll", "unrolled_gradient_equals_whole"},
    AdaptedForOneTask: {"adapted_has_a_task_axis"},
    PredictsFlat: {"predicts_the_outputs"},
    Forgets: {"state_survives_a_checkpoint"},
    CannotBeStored: {"state_survives_a_checkpoint"},
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_learner_trips_exactly_its_checks(broken: type[AnyLearner]) -> None:
    family = Lines() if issubclass(broken, Fit) else Words() if issubclass(broken, Climb) else Quadratics()
    results = testing.check_learner(broken(), family, on_fail="return")
    assert {r.name for r in results if not r.ok} == BROKEN[broken], [r for r in results if not r.ok]


def test_every_check_has_a_learner_that_trips_it() -> None:
    assert {*learners.suite.names(), *gradients.suite.names()} == set().union(*BROKEN.values())
