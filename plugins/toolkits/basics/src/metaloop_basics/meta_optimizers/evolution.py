"""Black-box meta-optimizers: evolution strategies, persistent ones for unrolled lives, random search."""

from __future__ import annotations

from typing import Any, Self, TypedDict

import torch
from metaloop import tree
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.learner import AnyLearner, from_rows, to_rows
from metaloop.meta_optimizer import MetaOptimizer, needs_tensors
from metaloop.objective import Objective
from metaloop.outcome import Carry, Measure, Outcome
from pydantic import Field, model_validator

from metaloop_basics.meta_optimizers.descent import Descent, DescentState, Theta
from metaloop_basics.meta_optimizers.gradient import needs_steps
from metaloop_basics.meta_optimizers.population import (
    Shaping,
    both,
    mean_outcome,
    moved,
    normal_like,
    shaped,
    weighted,
)


class EvolutionStrategy(Descent[DescentState]):
    """Estimate the gradient of the smoothed fitness from antithetic pairs (OpenAI-ES, Salimans et al. 2017).

    With `P` candidates theta ± sigma * eps_i and shaped fitness `F`, the gradient that the torch optimizer descends is
    `-1 / (P * sigma) * sum_i (F_i+ - F_i-) * eps_i`. All candidates meet the same tasks and noise. Weight decay, as in
    the paper, is `options={"weight_decay": 0.005}`.
    """

    lr: float = Field(default=1e-2, ge=0, allow_inf_nan=False, description="outer learning rate")
    population: int = Field(default=64, ge=2, multiple_of=2, description="candidates per step, two to a pair")
    sigma: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="standard deviation of perturbations")
    shaping: Shaping = Field(default="centered_rank", description="how fitness becomes weights")
    task_per_pair: bool = Field(
        default=False,
        description="each pair gets a task of its own, and population must be twice the tasks of a batch; goes well "
        "with shaping=pair_rank (antithetic task sampling, Jackson et al. 2024)",
    )
    task_per_candidate: bool = Field(
        default=False,
        description="each candidate gets a task of its own, and population must be the tasks of a batch: the same "
        "without antithetic task sampling",
    )
    chunk: int | None = Field(default=None, ge=1, description="candidates at a time, where memory is short")

    @model_validator(mode="after")
    def _one_sampling(self) -> Self:
        """Refuse both ways to give out tasks at once.

        Raises:
            UserError: they exclude each other.
        """
        if self.task_per_pair and self.task_per_candidate:
            raise UserError("task_per_pair and task_per_candidate exclude each other: set one of them to false")
        return self

    @classmethod
    def example(cls) -> Self:
        """A few pairs, and a rate high enough to see progress in a few steps."""
        return cls(population=16, lr=0.05)

    def begin(self, theta: Theta, key: Key) -> DescentState:
        """The torch optimizer's first state."""
        return self.begin_descent(theta)

    def step(
        self, theta: Theta, state: DescentState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, DescentState, Outcome]:
        """One generation and one step of the torch optimizer; the outcome's rows are means over candidates."""
        pairs = self.population // 2
        noise = normal_like(theta, pairs, key)
        positive, negative = moved(theta, noise, self.sigma), moved(theta, noise, -self.sigma)
        if self.task_per_candidate:
            self._expect_tasks(objective, self.population)
            outcome = objective.many(tree.concatenate([positive, negative]), each=True, chunk=self.chunk)  # [task]
            fitness = outcome.fitness
        elif self.task_per_pair:
            fitness, outcome = self._on_own_tasks(positive, negative, objective)
        else:
            out = objective.many(tree.concatenate([positive, negative]), chunk=self.chunk)  # [P, task]
            fitness, outcome = out.fitness.mean(1), mean_outcome(out)
        weights = shaped(fitness, self.shaping)  # [P]
        uphill = (weights[:pairs] - weights[pairs:]) / (self.population * self.sigma)
        return *self.descend(theta, state, weighted(noise, -uphill), outcome.loss), outcome

    def _on_own_tasks(
        self, positive: Theta, negative: Theta, objective: Objective[Theta]
    ) -> tuple[torch.Tensor, Outcome]:
        """Pair `i` on task `i`: the fitness of all candidates `[P]`, and rows per task."""
        self._expect_tasks(objective, self.population // 2)
        plus = objective.many(positive, each=True, chunk=self.chunk)  # [task]
        minus = objective.many(negative, each=True, chunk=self.chunk)
        return torch.cat([plus.fitness, minus.fitness]), both(plus, minus)

    def _expect_tasks(self, objective: Objective[Theta], n: int) -> None:
        if objective.n == n:
            return
        if self.task_per_candidate:
            raise UserError(
                f"task_per_candidate gives each of population={self.population} candidates one task, but task_batch is "
                f"{objective.n}; set population={objective.n}"
            )
        raise UserError(
            f"task_per_pair gives each pair one task, but population={self.population} makes {n} pairs and task_batch "
            f"is {objective.n}; set population={2 * objective.n}"
        )


class PersistentState(TypedDict):
    """The torch optimizer's state, and the particles (None before the first step)."""

    descent: DescentState
    positive: Carry[Any, Any] | None
    negative: Carry[Any, Any] | None
    xi: Theta | None
    """Each pair's perturbations so far in its present life, summed: leaves `[pair, ...]`."""


class PersistentES(Descent[PersistentState]):
    """Evolution strategies on windows of long lives, without the bias of truncation (PES, Vicol et al. 2021).

    A pair of particles lives on each task of the batch. In window `t` it runs under theta ± eps_t, with eps_t drawn
    from N(0, sigma^2 I), and sums its perturbations since birth, xi_t = eps_1 + ... + eps_t. The estimate over `N`
    particles, of which every second is the mirror image of the one before,

        g = 1 / (N * sigma^2) * sum_i xi_{t,i} * L_{t,i}

    is unbiased for the smoothed loss summed over a life's windows (Algorithm 2 of arXiv:2112.13835); with `N = 2n`
    it is `1/n * sum_i xi_{t,i} * (L_{t,i}+ - L_{t,i}-) / (2 * sigma^2)`. `L` is minus the fitness.
    """

    lr: float = Field(default=1e-2, ge=0, allow_inf_nan=False, description="outer learning rate")
    sigma: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="standard deviation of perturbations")
    window: int = Field(default=10, ge=1, description="inner steps per outer step")
    measure: Measure = Field(default="each", description="fitness after each inner step, or at the window's end alone")

    @classmethod
    def example(cls) -> Self:
        """Windows of two steps."""
        return cls(lr=0.05, sigma=0.1, window=2)

    def check(self, learner: AnyLearner) -> None:
        """Accept learners that run under stacked thetas and take inner steps."""
        needs_tensors(self, learner)
        needs_steps(self, learner)
        if not learner.stackable:
            raise Incompatible(
                f"PersistentES runs a theta of its own for every task, but {type(learner).__name__} can't be stacked; "
                "use basics/es"
            )

    def begin(self, theta: Theta, key: Key) -> PersistentState:
        """The torch optimizer's first state; no particles yet."""
        return PersistentState(descent=self.begin_descent(theta), positive=None, negative=None, xi=None)

    def step(
        self, theta: Theta, state: PersistentState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, PersistentState, Outcome]:
        """One window of all particles and one step of the torch optimizer; rows are means over each pair."""
        noise = normal_like(theta, objective.n, key)
        up, positive = self._unroll(moved(theta, noise, self.sigma), state["positive"], objective)
        down, negative = self._unroll(moved(theta, noise, -self.sigma), state["negative"], objective)
        before = tree.map_tensors(torch.zeros_like, noise) if state["xi"] is None else state["xi"]
        xi = moved(before, noise, self.sigma)  # [pair, ...]
        slope = (down.fitness - up.fitness) / (2 * self.sigma**2 * objective.n)  # [pair]
        outcome = both(up, down)
        descended, descent = self.descend(theta, state["descent"], weighted(xi, slope), outcome.loss)
        if up.done is not None:
            xi = tree.where(up.done, tree.map_tensors(torch.zeros_like, xi), xi)
        return descended, PersistentState(descent=descent, positive=positive, negative=negative, xi=xi), outcome

    def _unroll(
        self, thetas: Theta, carry: Carry[Any, Any] | None, objective: Objective[Theta]
    ) -> tuple[Outcome, Carry[Any, Any]]:
        return objective.unroll(thetas, carry, self.window, each=True, measure=self.measure)


class RandomSearch(MetaOptimizer[Theta, dict[str, Any]]):
    """Keep the best of theta and some perturbations of it, all judged on the same tasks.

    Theta itself is judged again in every step: on new tasks it has to win anew.
    """

    candidates: int = Field(default=16, ge=1, description="perturbations per step")
    sigma: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="standard deviation of perturbations")
    chunk: int | None = Field(default=None, ge=1, description="candidates at a time, where memory is short")

    @classmethod
    def example(cls) -> Self:
        """A few candidates, far enough apart to see progress in a few steps."""
        return cls(candidates=8, sigma=0.2)

    def step(
        self, theta: Theta, state: dict[str, Any], objective: Objective[Theta], key: Key
    ) -> tuple[Theta, dict[str, Any], Outcome]:
        """Judge all candidates and keep the best; the outcome is the kept one's."""
        proposals = moved(theta, normal_like(theta, self.candidates, key), self.sigma)
        thetas = tree.concatenate([{name: value[None] for name, value in theta.items()}, proposals])
        out = objective.many(thetas, chunk=self.chunk)  # [candidate, task]
        fitness = torch.nan_to_num(out.fitness.mean(1), nan=-torch.inf)
        best = int(fitness.argmax())  # the first of equals: theta itself
        info = None if out.info is None else out.info[best]
        kept = tree.map_tensors(torch.clone, tree.index(thetas, best))
        return kept, state, from_rows(tree.index(to_rows(out), best))._replace(info=info)
