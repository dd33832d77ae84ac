"""What a life says of the level that it was on: regret, or whatever its learner reports (paper, section 4.1)."""

from __future__ import annotations

from typing import Self

import torch
from metaloop import Component, Incompatible, Key, Outcome, UserError
from metaloop.learner import AnyLearner
from metaloop.tasks import AnyTaskFamily
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.tasks import Worlds
from pydantic import Field
from torch import Tensor

from metaloop_groove.a2c import A2C
from metaloop_groove.optimal import optimal_return


class Score(Component):
    """A function of how a life ended, and of what its level is worth to someone else."""

    def check(self, tasks: AnyTaskFamily) -> None:
        """Accept a family's tasks, or raise `Incompatible` with the reason."""

    def reference(self, family: AnyTaskFamily, tasks: object, key: Key, keys: Key) -> Tensor:
        """What lives on each level are compared with, `[task]`; asked for once for each level.

        Args:
            family: where the levels come from.
            tasks: the levels.
            key: the same for all levels of a run.
            keys: `[task]`, each level's own.
        """
        return torch.zeros(keys.shape, dtype=torch.get_default_dtype(), device=keys.device)

    def of(self, outcome: Outcome, reference: Tensor) -> Tensor:
        """Scores `[task]` of lives that ended; the highest are replayed."""
        raise NotImplementedError(f"{type(self).__name__} must implement of")


class Regret(Score):
    """How much better the reference does on a level than the life that ended."""

    def of(self, outcome: Outcome, reference: Tensor) -> Tensor:
        """The reference's fitness less the life's."""
        return reference - outcome.fitness


class AlgorithmicRegret(Regret):
    """Regret against a learner made by hand that spends its own life on the level (paper, equation 3).

    The antagonist may be any learner of the same tasks whose fitness means the same: with `steps=0` of
    `groove/a2c` it is the random agent.
    """

    antagonist: AnyLearner = Field(default_factory=A2C, description="whom a life is compared with")

    def check(self, tasks: AnyTaskFamily) -> None:
        """Ask the antagonist."""
        self.antagonist.check(tasks.spec)

    def reference(self, family: AnyTaskFamily, tasks: object, key: Key, keys: Key) -> Tensor:
        """The antagonist's fitness after its life on each level, all levels in one batch."""
        theta = self.antagonist.init(family.spec, key.fold("theta"))
        with torch.no_grad():
            outcome, _ = self.antagonist.live(theta, tasks, keys.fold("antagonist"))
        return outcome.fitness


class OptimalRegret(Regret):
    """Regret against the optimal policy of a grid world, found by dynamic programming (paper, section 5.3)."""

    def check(self, tasks: AnyTaskFamily) -> None:
        """Accept grid worlds whose objects stay where they lie."""
        env = getattr(tasks, "env", None)
        if not isinstance(env, GridWorld) or env.random_objects or env.random_start:
            raise Incompatible("the optimal policy is known for rl/grid-world with fixed places alone")

    def reference(self, family: AnyTaskFamily, tasks: object, key: Key, keys: Key) -> Tensor:
        """The optimal expected return of one episode."""
        assert isinstance(tasks, Worlds)
        assert isinstance(tasks.env, GridWorld)
        return optimal_return(tasks.env, tasks.parameters)


class Reported(Score):
    """What the learner reports of itself."""

    metric: str = Field(
        default="score", min_length=1, description="a metric of the learner's outcome; score falls back to its loss"
    )

    @classmethod
    def example(cls) -> Self:
        """The loss."""
        return cls(metric="loss")

    def of(self, outcome: Outcome, reference: Tensor) -> Tensor:
        """The metric.

        Raises:
            UserError: the learner does not report it.
        """
        if self.metric in ("score", "loss", "fitness"):
            found: Tensor = getattr(outcome, self.metric)
            return found
        if self.metric not in outcome.metrics:
            known = ", ".join(("score", "loss", "fitness", *outcome.metrics))
            raise UserError(f"Reported.metric: the learner reports no {self.metric!r}, only {known}")
        return outcome.metrics[self.metric]
