"""The outer loop: how meta-parameters improve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from metaloop.component import Component
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import AnyLearner
from metaloop.objective import Objective
from metaloop.outcome import Outcome

Theta = TypeVar("Theta")
MetaState = TypeVar("MetaState")


class MetaOptimizer(Component, Generic[Theta, MetaState]):
    """One outer step at a time: sees theta, its own state and an objective, returns the next of both.

    A method that follows gradients calls `objective.grad(theta)`; a black-box one calls `objective.many(thetas)`; one
    with persistent inner lives calls `objective.unroll` or `unroll_grad` and keeps the carry in its state.
    """

    def check(self, learner: AnyLearner) -> None:
        """Accept a learner by its class facts, or raise `Incompatible` with the reason."""
        needs_tensors(self, learner)

    def begin(self, theta: Theta, key: Key) -> MetaState:
        """The state before the first outer step."""
        return {}  # type: ignore[return-value]

    def step(
        self, theta: Theta, state: MetaState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, MetaState, Outcome]:
        """One outer step; pure. The outcome has one row per task of the objective, for curricula and reports."""
        raise NotImplementedError(f"{type(self).__name__} must implement step")


def needs_tensors(meta_optimizer: Component, learner: AnyLearner) -> None:
    """Refuse a learner whose theta is not a dict of tensors."""
    if learner.theta_kind != "tensors":
        has = "has nothing to meta-learn" if learner.theta_kind == "none" else "has an object for theta"
        raise Incompatible(
            f"{type(meta_optimizer).__name__} needs a theta of tensors, but {type(learner).__name__} {has}"
            + ("; leave meta_optimizer out" if learner.theta_kind == "none" else "")
        )


def needs_gradient(meta_optimizer: Component, learner: AnyLearner) -> None:
    """Refuse a learner that can't be differentiated with respect to theta."""
    needs_tensors(meta_optimizer, learner)
    if not learner.differentiable:
        raise Incompatible(
            f"{type(meta_optimizer).__name__} follows gradients, but {type(learner).__name__} is not differentiable; "
            "use a black-box meta-optimizer such as basics/es"
        )


if TYPE_CHECKING:
    AnyMetaOptimizer = MetaOptimizer[Any, Any]
else:  # pydantic would take a parametrised generic for a class of its own
    AnyMetaOptimizer = MetaOptimizer
