"""Meta Agent Search (paper, algorithm 1): the archive is the state, a program is theta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypedDict

import numpy as np
import torch
from metaloop import Incompatible, Key, MetaOptimizer, Objective, Outcome, UserError
from metaloop.learner import AnyLearner
from metaloop.tree import index as rows_of
from pydantic import Field, field_validator

from metaloop_adas.archive import Agent, Entry, best, bootstrap, mean
from metaloop_adas.learner import AgentSystem
from metaloop_adas.meta_agent import MetaAgent, Proposal
from metaloop_adas.seeds import SEEDS, seeds
from metaloop_adas.variation import TypedVariation

FAILED = 0.01
"""An agent whose accuracy is below this is debugged (paper's code)."""


class ArchiveState(TypedDict):
    """What a generation leaves to the next."""

    archive: list[Entry]
    generation: int
    skipped: int
    """Proposals that never ran."""


class ArchiveSearch(MetaOptimizer[Agent, ArchiveState]):
    """One step is one generation: propose, reflect, run (and debug), add to the archive whatever the score.

    The first step evaluates the hand-designed agents too. Theta is the archive's agent with the best validation
    accuracy; the paper reports the one that is best on the test, which is optimistic.
    """

    meta_agent: MetaAgent = Field(default=TypedVariation(), description="what designs agents")
    seeds: tuple[str, ...] = Field(default=tuple(SEEDS), min_length=1, description="hand-designed agents to begin with")
    reflections: int = Field(default=2, ge=0, description="times that a proposal is looked at again before it is run")
    attempts: int = Field(default=3, ge=1, description="runs of a proposal that fails, with debugging between them")
    samples: int = Field(default=100_000, ge=100, description="bootstrap samples of an accuracy")

    @field_validator("seeds")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in SEEDS]:
            raise UserError(f"seeds: {unknown[0]!r} is none of {', '.join(SEEDS)}")
        return names

    @classmethod
    def example(cls) -> Self:
        """Few samples."""
        return cls(samples=1000)

    def check(self, learner: AnyLearner) -> None:
        """Agents that are programs only."""
        if not isinstance(learner, AgentSystem):
            raise Incompatible(
                f"ArchiveSearch designs agents as programs (learner adas/agents), not theta of {type(learner).__name__}"
            )

    def begin(self, theta: Agent, key: Key) -> ArchiveState:
        """An empty archive."""
        return ArchiveState(archive=[], generation=0, skipped=0)

    def step(
        self, theta: Agent, state: ArchiveState, objective: Objective[Agent], key: Key
    ) -> tuple[Agent, ArchiveState, Outcome]:
        """One generation. The outcome is the new agent's; `best` in it is the archive's best accuracy."""
        archive, generation = list(state["archive"]), state["generation"] + 1
        if not archive:
            archive = self._hand_designed(objective, key)
        budget = _budget(objective)
        proposal = self.meta_agent.propose(archive, budget, key.fold("propose"))
        for i in range(1, self.reflections + 1):
            proposal = self.meta_agent.reflect(proposal, archive, budget, i, key.fold("reflect", i))
        out, ran = objective(proposal.agent), False
        for attempt in range(1, self.attempts + 1):
            ran = float(out.fitness.mean()) >= FAILED
            if ran or attempt == self.attempts:
                break
            error = _error(out)
            proposal = self.meta_agent.debug(proposal, error, archive, budget, key.fold("debug", attempt))
            out = objective(proposal.agent)
        if ran:
            archive.append(self._entry(proposal, generation, out, key.fold("bootstrap", generation)))
        after = ArchiveState(archive=archive, generation=generation, skipped=state["skipped"] + (not ran))
        top = archive[best(archive)]
        numbers = {"best": mean(top), "archive": float(len(archive)), "skipped": float(after["skipped"])}
        more = {name: torch.full_like(out.fitness, value) for name, value in numbers.items()}
        return top["agent"], after, out._replace(metrics={**out.metrics, **more})

    def _hand_designed(self, objective: Objective[Agent], key: Key) -> list[Entry]:
        agents = [agent for agent in seeds() if agent["name"] in self.seeds]
        out = objective.many(agents)
        return [
            self._entry(Proposal(agent), 0, rows_of(out._replace(info=None), i), key.fold("seed", i))
            for i, agent in enumerate(agents)
        ]

    def _entry(self, proposal: Proposal, generation: int, out: Outcome, key: Key) -> Entry:
        scores = out.fitness.tolist()
        return Entry(
            agent=proposal.agent,
            generation=generation,
            parents=list(proposal.parents),
            scores=scores,
            fitness=bootstrap(scores, self.samples, np.random.default_rng(key.seed())),
            calls=float(out.metrics["calls"].mean()),
            empty=float(out.metrics["empty"].mean()),
        )


def _budget(objective: Objective[Agent]) -> int:
    learner = objective.learner
    assert isinstance(learner, AgentSystem)
    return learner.budget


def _error(out: Outcome) -> str:
    """The first error, or that there was none."""
    said: Sequence[str | None] = out.info or []
    return next((error for error in said if error), "it runs, but every answer is wrong")
