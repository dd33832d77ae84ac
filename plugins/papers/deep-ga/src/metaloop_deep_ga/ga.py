"""The Deep GA: truncation selection and Gaussian mutation of whole networks (Such et al. 2017, algorithm 1)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self, TypedDict

import torch
from metaloop import Key, MetaOptimizer, Objective, Outcome, tree
from metaloop.learner import from_rows, to_rows
from metaloop_rl.learners.episodic import BEHAVIOUR
from pydantic import Field
from torch import Tensor

from metaloop_deep_ga.genome import SEEDS, Genome, Theta, first_key, noise_of
from metaloop_deep_ga.novelty import behaviours, novelty

FRESH, UNCHANGED = -1, -1
"""An individual without a parent; one that is not mutated."""


class GAState(TypedDict):
    """What a generation leaves to the next."""

    parents: Theta | None
    """The elite, then the others that may have children: leaves `[parent, ...]`; None before the first generation."""
    genomes: list[Genome]
    """The parents'."""
    best: list[Genome]
    """That of the best individual so far, which is theta; empty before the first generation."""
    score: float
    """The best one's fitness where it was judged."""
    archive: Tensor | None
    """Behaviours kept for novelty, `[archived, k]`."""
    seen: Tensor | None
    """Behaviours of all individuals so far, `[individual, k]`, where they are recorded."""


class Brood(NamedTuple):
    """A generation before it has weights."""

    parent: Tensor
    """`[individual]` int64: a row of the parents, or `FRESH`."""
    seed: Tensor
    """`[individual]` int64: of the mutation or of the first weights, or `UNCHANGED`."""


class DeepGA(MetaOptimizer[Theta, GAState]):
    """A genetic algorithm without crossover.

    A generation has `population` individuals, made from uniformly chosen parents by adding Gaussian noise to all
    weights, and the elite, unchanged. The best `parents` of them are the next parents. The elite is the one of
    `candidates` individuals (the old elite and the best of the generation) that fares best on `validations` fresh
    tasks. Theta is the elite with the best such result so far. All individuals of a generation meet the same tasks and
    noise.

    With `parents=0` every individual is drawn anew by the learner's initialisation: random search.
    """

    population: int = Field(default=64, ge=2, description="children in a generation (N)")
    parents: int = Field(default=20, ge=0, description="individuals that may have children (T); 0: random search")
    sigma: float = Field(
        default=0.02, gt=0, allow_inf_nan=False, description="standard deviation of mutations, of every weight alike"
    )
    candidates: int = Field(default=10, ge=1, description="individuals that are judged again for the elite (C)")
    validations: int = Field(
        default=30, ge=0, description="fresh tasks that they are judged on (R); 0: the generation's fitness decides"
    )
    objective: Literal["fitness", "novelty"] = Field(
        default="fitness", description="what selects parents; with novelty theta still is the fittest individual so far"
    )
    neighbours: int = Field(default=25, ge=1, description="nearest behaviours that novelty is measured by (k)")
    archive: float = Field(default=0.01, ge=0, le=1, description="probability that a behaviour is archived (p)")
    record: bool = Field(default=False, description="keep the behaviours of all individuals in the state")
    chunk: int | None = Field(default=None, ge=1, description="individuals at a time, where memory is short")

    @classmethod
    def example(cls) -> Self:
        """A small generation with large mutations."""
        return cls(population=16, parents=4, sigma=0.2, candidates=3, validations=4)

    def begin(self, theta: Theta, key: Key) -> GAState:
        """Nothing yet: the first generation is drawn by the learner's initialisation."""
        return GAState(parents=None, genomes=[], best=[], score=-math.inf, archive=None, seen=None)

    def step(
        self, theta: Theta, state: GAState, objective: Objective[Theta], key: Key
    ) -> tuple[Theta, GAState, Outcome]:
        """One generation. The outcome is that of its champion: the individual that fares best."""
        brood = self._brood(state, key)
        out = self._judge(state, brood, torch.arange(len(brood.seed)), objective)
        fitness = _mean(out)
        found = behaviours(out) if self.objective == "novelty" or self.record else None
        worth, archive = fitness, state["archive"]
        if self.objective == "novelty" and found is not None:
            archive = found[:0] if archive is None else archive
            worth = torch.nan_to_num(novelty(found, archive, self.neighbours), nan=-torch.inf)
            archive = torch.cat([archive, found[key.fold("archive").uniform(len(found)) < self.archive]])
        order = worth.argsort(descending=True, stable=True).tolist()
        champion, score = self._champion(state, brood, fitness, objective)
        elite = champion if self.objective == "fitness" else order[0]
        rows = [elite, *(row for row in order if row != elite)][: max(self.parents, 1)]
        genomes = [self._genome(state, brood, row) for row in rows]
        best, best_score = state["best"], state["score"]
        if score > best_score or not best:
            own = self._weights(state, brood, torch.tensor([champion]), objective)
            theta, best, best_score = tree.index(own, 0), [self._genome(state, brood, champion)], score
        seen = state["seen"]
        if self.record and found is not None:
            seen = found if seen is None else torch.cat([seen, found])
        after = GAState(
            parents=self._weights(state, brood, torch.tensor(rows), objective),
            genomes=genomes,
            best=best,
            score=best_score,
            archive=archive,
            seen=seen,
        )
        more = {"best_validation": best_score, "compression": compression(theta, best[0])}
        if self.objective == "novelty" and archive is not None:
            more |= {"novelty": float(worth.mean()), "archived": float(len(archive))}
        return theta, after, _outcome_of(out, champion, more)

    def _brood(self, state: GAState, key: Key) -> Brood:
        """The elite, if there is one, and its generation's children."""
        n, elders = self.population, len(state["genomes"])
        seeds = key.fold("seeds").randint(0, SEEDS, n)
        drawn = key.fold("parents").randint(0, max(elders, 1), n)
        parent = drawn if elders and self.parents else torch.full_like(seeds, FRESH)
        if elders:
            parent, seeds = torch.cat([parent.new_zeros(1), parent]), torch.cat([seeds.new_tensor([UNCHANGED]), seeds])
        return Brood(parent, seeds)

    def _weights(self, state: GAState, brood: Brood, rows: Tensor, objective: Objective[Theta]) -> Theta:
        """The weights of some individuals, leaves `[row, ...]`: one addition each."""
        parent, seed, old = brood.parent[rows], brood.seed[rows], state["parents"]
        if bool((parent == FRESH).any()):
            drawn = [
                objective.init(first_key(s, seed.device)) if p == FRESH or old is None else tree.index(old, p)
                for p, s in zip(parent.tolist(), seed.tolist(), strict=True)
            ]
            return tree.stack(drawn)
        assert old is not None
        base = tree.index(old, parent)
        noise = noise_of(tree.index(old, 0), seed)
        moved = {name: value + self.sigma * noise[name] for name, value in base.items()}
        return tree.where(seed != UNCHANGED, moved, base)

    def _judge(self, state: GAState, brood: Brood, rows: Tensor, objective: Objective[Theta]) -> Outcome:
        """Rows `[individual, task]` of some individuals."""
        chunks = torch.split(rows, self.chunk or len(rows))
        parts = [objective.many(self._weights(state, brood, chunk, objective)) for chunk in chunks]
        infos = [row for part in parts for row in (part.info or [None] * len(part.loss))]
        info = infos if any(part.info for part in parts) else None
        return from_rows(tree.concatenate([to_rows(part) for part in parts]))._replace(info=info)

    def _champion(
        self, state: GAState, brood: Brood, fitness: Tensor, objective: Objective[Theta]
    ) -> tuple[int, float]:
        """The individual that fares best, and its fitness: on fresh tasks, where candidates are judged again."""
        order: list[int] = fitness.argsort(descending=True, stable=True).tolist()
        if self.validations == 0:
            return order[0], float(fitness[order[0]])
        old = [0] if state["genomes"] else []
        rows = [*old, *(row for row in order if row not in old)][: self.candidates]
        fresh = objective.fresh("elite", self.validations)
        judged = _mean(self._judge(state, brood, torch.tensor(rows), fresh))
        first = int(judged.argmax())
        return rows[first], float(judged[first])

    def _genome(self, state: GAState, brood: Brood, row: int) -> Genome:
        parent, seed = int(brood.parent[row]), int(brood.seed[row])
        if parent == FRESH:
            return Genome.first(seed)
        own = state["genomes"][parent]
        return own if seed == UNCHANGED else own.mutated(seed, self.sigma)


def compression(theta: Theta, genome: Genome) -> float:
    """How many times more bytes the weights have than the seeds."""
    return sum(value.nbytes for value in theta.values()) / len(genome.to_bytes())


def _mean(out: Outcome) -> Tensor:
    """Fitness of each candidate, `[candidate]`; one that broke is the worst."""
    return torch.nan_to_num(out.fitness.mean(1), nan=-torch.inf)


def _outcome_of(out: Outcome, row: int, more: dict[str, float]) -> Outcome:
    """One candidate's rows, and in each of them numbers about its generation, means over the population among them."""
    own = from_rows(tree.index(to_rows(out), row))
    means = {name: value for name, value in out.means().items() if name != "loss" and not name.startswith(BEHAVIOUR)}
    more = {**more, **{f"population/{name}": float(value) for name, value in means.items()}}
    numbers = {name: own.loss.new_full(own.loss.shape, value) for name, value in more.items()}
    return own._replace(metrics={**own.metrics, **numbers}, info=None if out.info is None else out.info[row])
