"""The meta-optimizer checks: methods of every sort pass, and each broken one trips exactly the checks for its fault."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop import testing, tree
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.learner import Adapts, AnyLearner
from metaloop.meta_optimizer import AnyMetaOptimizer, MetaOptimizer, needs_gradient, needs_tensors
from metaloop.outcome import Outcome
from metaloop.testing import meta_optimizers
from metaloop.testing.toys import ALPHABET, Descent, Fit, Guess, Lines, NoisyDescent, Quadratics, Revisits, Text, Words
from pydantic import Field
from torch import Tensor

Theta = dict[str, Tensor]
Step = tuple[Any, Any, Outcome]


class Gradient(MetaOptimizer[Theta, Any]):
    """Heavy-ball gradient descent."""

    lr: float = Field(default=0.02, ge=0.0, description="learning rate")

    def check(self, learner: AnyLearner) -> None:
        needs_gradient(self, learner)

    def begin(self, theta: Theta, key: Key) -> Any:
        return {"velocity": tree.map_tensors(torch.zeros_like, theta)}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        gradient, out = objective.grad(theta)
        velocity = {name: 0.5 * state["velocity"][name] + gradient[name] for name in theta}
        return self.moved(theta, velocity), {"velocity": velocity}, out

    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {name: theta[name] - self.lr * velocity[name] for name in theta}


class Truncated(Gradient):
    """Gradients through two inner steps at a time of lives that go on."""

    def begin(self, theta: Theta, key: Key) -> Any:
        return {"carry": None}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        gradient, out, carry = objective.unroll_grad(theta, state["carry"], 2)
        return self.moved(theta, gradient), {"carry": carry}, out


class Interpolation(MetaOptimizer[Theta, Any]):
    """Reptile: move towards the adapted thetas."""

    rate: float = Field(default=0.2, gt=0.0, description="share of the way")

    def check(self, learner: AnyLearner) -> None:
        needs_tensors(self, learner)
        if not isinstance(learner, Adapts):
            raise Incompatible(f"{type(learner).__name__} does not say what an adapted theta is")

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        adapted, out = objective.adapt(theta)
        return {n: theta[n] + self.rate * (adapted[n].mean(0) - theta[n]) for n in theta}, state, out


class Strategy(MetaOptimizer[Theta, Any]):
    """Antithetic evolution strategy."""

    lr: float = Field(default=0.02, gt=0.0, description="learning rate")
    pairs: int = Field(default=8, ge=1, description="antithetic pairs")

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        noise = {name: key.fold(name).normal(self.pairs, *value.shape) for name, value in theta.items()}
        both = {n: torch.cat([theta[n] + 0.1 * noise[n], theta[n] - 0.1 * noise[n]]) for n in theta}
        out = objective.many(both)
        gain = out.fitness[: self.pairs].mean(1) - out.fitness[self.pairs :].mean(1)  # [pair]
        new = {n: theta[n] + self.lr * torch.tensordot(gain, noise[n], 1) / (0.2 * self.pairs) for n in theta}
        return new, state, tree.map_tensors(lambda rows: rows.mean(0), out)


class Spelling(MetaOptimizer[str, Any]):
    """Mutate a string and keep what is better; remembers every string it kept."""

    def check(self, learner: AnyLearner) -> None:
        if learner.theta_kind != "object" or not isinstance(learner, Text):
            raise Incompatible(f"Spelling changes words, and {type(learner).__name__} has none for a theta")

    def begin(self, theta: str, key: Key) -> Any:
        return {"kept": [theta]}

    def step(self, theta: str, state: Any, objective: Any, key: Key) -> Step:
        place = int(key.fold("place").randint(0, len(theta)))
        other = theta[:place] + ALPHABET[int(key.fold("letter").randint(0, len(ALPHABET)))] + theta[place + 1 :]
        out = objective.many([theta, other])
        best = int(out.fitness.mean(1).argmax())
        kept = [theta, other][best]
        return kept, {"kept": [*state["kept"], kept]}, Outcome(out.loss[best], out.fitness[best], {})


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (Gradient(lr=0.01), {}),
        (Gradient(), {"learner": Fit(), "tasks": Lines(), "factor": 0.7}),
        (Truncated(), {"learner": NoisyDescent(), "tasks": Revisits()}),
        (Interpolation(rate=0.3), {"factor": 0.2}),
        (Strategy(pairs=6), {}),
        (Strategy(), {"learner": Guess(), "tasks": Quadratics(), "outer_steps": 12}),
        (Spelling(), {"learner": Text(steps=1), "tasks": Words()}),
    ],
    ids=lambda part: type(part).__name__,
)
def test_real_methods_conform(method: AnyMetaOptimizer, given: dict[str, Any]) -> None:
    assert len(testing.check_meta_optimizer(method, **given)) >= 22


class StandsStill(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return tree.clone(theta)


class GoesUphill(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {name: theta[name] + self.lr * velocity[name] for name in theta}


class MovesInPlace(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {name: value.sub_(self.lr * velocity[name]) for name, value in theta.items()}


class CountsInPlace(Gradient):
    def begin(self, theta: Theta, key: Key) -> Any:
        return {**super().begin(theta, key), "count": [0]}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        state["count"][0] = 1
        new, velocity, out = super().step(theta, state, objective, key)
        return new, {**velocity, "count": [0]}, out


SEEN: list[int] = []
KEPT: list[Tensor] = []


class RemembersOutsideItsState(Gradient):
    """As one that keeps a torch optimizer in a global: the steps so far are not in the state."""

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        SEEN.append(1)
        new, state, out = super().step(theta, state, objective, key)
        return {name: value + 1e-3 * (len(SEEN) % 7) for name, value in new.items()}, state, out


class DrawsGlobally(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {name: value + 1e-3 * torch.randn(()) for name, value in super().moved(theta, velocity).items()}


class SeedsGlobally(Gradient):
    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        torch.manual_seed(key.seed())
        return super().step(theta, state, objective, key)


class GrowsToDouble(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {name: value.double() for name, value in super().moved(theta, velocity).items()}


class AddsAName(Gradient):
    def moved(self, theta: Theta, velocity: Theta) -> Theta:
        return {**super().moved(theta, velocity), "extra": torch.zeros(())}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        mine = {name: value for name, value in theta.items() if name != "extra"}
        return super().step(mine, state, objective, key)


class OneRow(Gradient):
    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        new, state, out = super().step(theta, state, objective, key)
        return new, state, tree.map_tensors(lambda rows: rows.mean(0, keepdim=True), out)


class OutcomeWithGraph(Gradient):
    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        new, state, out = super().step(theta, state, objective, key)
        return new, state, out._replace(loss=out.loss.detach().requires_grad_() * 1.0)


class SpendsInSecret(Gradient):
    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        keys = key.split(objective.n)

        def loss(theta: Theta) -> Any:
            out, _ = objective.learner.live(theta, objective.draw.tasks, keys)
            return out.loss.mean(), (out.loss, out.fitness, out.metrics)

        gradient, rows = torch.func.grad(loss, has_aux=True)(theta)
        return self.moved(theta, gradient), state, Outcome(*rows)


class AcceptsAnything(Gradient):
    def check(self, learner: AnyLearner) -> None:
        pass


class ForgetsToAskForGradients(Gradient):
    def check(self, learner: AnyLearner) -> None:
        needs_tensors(self, learner)


class ForgetsToAskForAdapted(Interpolation):
    def check(self, learner: AnyLearner) -> None:
        needs_tensors(self, learner)


class RefusesEverything(Gradient):
    def check(self, learner: AnyLearner) -> None:
        raise Incompatible("not today")


class RefusesWithoutAReason(Gradient):
    def check(self, learner: AnyLearner) -> None:
        try:
            super().check(learner)
        except Incompatible:
            raise Incompatible("") from None


class CannotBeStored(Gradient):
    def begin(self, theta: Theta, key: Key) -> Any:
        return {**super().begin(theta, key), "seen": {1, 2}}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        new, velocity, out = super().step(theta, state, objective, key)
        return new, {**velocity, "seen": state["seen"]}, out


class KeepsGradients(Gradient):
    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        new, state, out = super().step(theta, state, objective, key)
        KEPT.extend(new.values())
        return new, state, out


class StoresRoundedNumbers(Gradient):
    """What a checkpoint gets is not all there is."""

    def begin(self, theta: Theta, key: Key) -> Any:
        return {"velocity": Rounded(super().begin(theta, key)["velocity"])}

    def step(self, theta: Theta, state: Any, objective: Any, key: Key) -> Step:
        new, velocity, out = super().step(theta, {"velocity": state["velocity"].values}, objective, key)
        return new, {"velocity": Rounded(velocity["velocity"])}, out


class Rounded:
    def __init__(self, values: Theta) -> None:
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        return {name: (value * 100).round() / 100 for name, value in self.values.items()}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.values = values


BROKEN: dict[type[AnyMetaOptimizer], set[str]] = {
    StandsStill: {"improves"},
    GoesUphill: {"improves"},
    MovesInPlace: {"inputs_are_left_alone", "step_is_reproducible", "improves"},
    CountsInPlace: {"inputs_are_left_alone"},
    RemembersOutsideItsState: {"step_is_reproducible", "ignores_global_rng", "resumes_exactly"},
    DrawsGlobally: {
        "leaves_global_rng_alone",
        "ignores_global_rng",
        "step_is_reproducible",
        "resumes_exactly",
    },
    SeedsGlobally: {"leaves_global_rng_alone"},
    GrowsToDouble: {"theta_keeps_its_form", "works_with_what_it_accepts"},
    AddsAName: {"theta_keeps_its_form"},
    OneRow: {"outcome_has_a_row_per_task"},
    OutcomeWithGraph: {"outcome_has_a_row_per_task"},
    SpendsInSecret: {"spends_through_the_objective"},
    AcceptsAnything: {"refuses_nothing_to_learn", "works_with_what_it_accepts"},
    ForgetsToAskForGradients: {"works_with_what_it_accepts"},
    ForgetsToAskForAdapted: {"works_with_what_it_accepts"},
    RefusesEverything: {"accepts_the_learner"},
    RefusesWithoutAReason: {"refuses_nothing_to_learn"},
    CannotBeStored: {"resumes_exactly"},
    StoresRoundedNumbers: {"resumes_exactly"},
    KeepsGradients: {"keeps_no_tensors"},
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_method_trips_exactly_its_checks(broken: type[AnyMetaOptimizer]) -> None:
    results = testing.check_meta_optimizer(broken(), on_fail="return")
    assert {r.name for r in results if not r.ok} == BROKEN[broken], [r for r in results if not r.ok]


def test_a_learner_needs_its_tasks() -> None:
    with pytest.raises(UserError, match="together"):
        testing.check_meta_optimizer(Gradient(), Descent())


def test_every_check_has_a_method_that_trips_it() -> None:
    assert set(meta_optimizers.suite.names()) == set().union(*BROKEN.values())
