"""Meta-gradients by differentiating through adaptation, whole lives or windows of them."""

from __future__ import annotations

from typing import Any, Self, TypedDict

from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import AnyLearner, Learner
from metaloop.meta_optimizer import needs_gradient
from metaloop.objective import Objective
from metaloop.outcome import Carry, Measure, Outcome
from pydantic import Field

from metaloop_basics.meta_optimizers.descent import Descent, DescentState, Theta


class Gradient(Descent[DescentState]):
    """Follow the gradient of the mean loss through whole lives (MAML's outer loop, Finn et al. 2017)."""

    @classmethod
    def example(cls) -> Self:
        """A rate high enough to see progress in a few steps."""
        return cls(lr=0.05)

    def check(self, learner: AnyLearner) -> None:
        """Accept learners that can be differentiated."""
        needs_gradient(self, learner)

    def begin(self, theta: Theta, key: Key) -> DescentState:
        """The torch optimizer's first state."""
        return self.begin_descent(theta)

    def step(
        self, theta: Theta, state: DescentState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, DescentState, Outcome]:
        """One gradient and one step of the torch optimizer."""
        gradient, outcome = objective.grad(theta)
        return *self.descend(theta, state, gradient, outcome.loss), outcome


class TruncatedState(TypedDict):
    """The torch optimizer's state and the lives in progress (None before the first step)."""

    descent: DescentState
    carry: Carry[Any, Any] | None


class TruncatedGradient(Descent[TruncatedState]):
    """Follow the gradient through a window of inner steps, and go on from there in the next outer step.

    Cheap on long lives, but biased: what theta did before the window has no gradient (Wu et al. 2018,
    arXiv:1803.02021). With the window as long as the lives and `measure="end"` it is `Gradient`.
    """

    window: int = Field(default=10, ge=1, description="inner steps differentiated through, per outer step")
    measure: Measure = Field(default="each", description="loss after each inner step, or at the window's end alone")

    @classmethod
    def example(cls) -> Self:
        """Windows of two steps."""
        return cls(lr=0.05, window=2)

    def check(self, learner: AnyLearner) -> None:
        """Accept learners that can be differentiated and take inner steps."""
        needs_gradient(self, learner)
        needs_steps(self, learner)

    def begin(self, theta: Theta, key: Key) -> TruncatedState:
        """The torch optimizer's first state; no lives yet."""
        return TruncatedState(descent=self.begin_descent(theta), carry=None)

    def step(
        self, theta: Theta, state: TruncatedState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, TruncatedState, Outcome]:
        """One window of all lives and one step of the torch optimizer."""
        gradient, outcome, carry = objective.unroll_grad(theta, state["carry"], self.window, measure=self.measure)
        theta, descent = self.descend(theta, state["descent"], gradient, outcome.loss)
        return theta, TruncatedState(descent=descent, carry=carry), outcome


def needs_steps(meta_optimizer: Descent[Any], learner: AnyLearner) -> None:
    """Refuse a learner without inner steps, which has no windows."""
    if learner.steps == 0 and type(learner).lifetime is Learner.lifetime:
        raise Incompatible(
            f"{type(meta_optimizer).__name__} unrolls windows of inner steps, but {type(learner).__name__} has none "
            "(steps = 0); use basics/gradient or basics/es"
        )
