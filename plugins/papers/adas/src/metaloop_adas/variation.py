"""A meta agent without a language model: it varies the blocks of agents in the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from metaloop import Key
from pydantic import Field

from metaloop_adas.archive import Entry, mean
from metaloop_adas.blocks import COUNTS, KINDS, Block, calls, make
from metaloop_adas.distance import distance
from metaloop_adas.meta_agent import MetaAgent, Proposal
from metaloop_adas.seeds import agent

LEAVES = tuple(kind for kind, known in KINDS.items() if known.inputs == 0)
UNARY = tuple(kind for kind, known in KINDS.items() if known.inputs == 1)
BINARY = tuple(kind for kind, known in KINDS.items() if known.inputs == 2)
COUNTED = ("n", "rounds")

Operator = Callable[[Block, np.random.Generator], Block]


class TypedVariation(MetaAgent):
    """Typed variation of agents' blocks: insert, delete, replace, change an option, cross two entries.

    Parents are drawn by their rank in the archive. Counts of samples and rounds are raised until an agent may use the
    whole budget of calls. To reflect is to see that the types hold, that no loop has more
    calls than the budget, and that the agent is new: at least `novelty` edits from everything in the archive. What is
    not is varied again. To debug is to replace a block.
    """

    context: Literal["archive", "last", "seeds", "none"] = Field(
        default="archive",
        description="what is varied: all entries, the last one, hand-designed ones only; none: random agents",
    )
    novelty: float = Field(default=0.5, ge=0, description="least edit distance from all entries of the archive")
    deepest: int = Field(default=4, ge=1, description="levels of a random tree")
    tries: int = Field(default=30, ge=1, description="variations until one is new")

    def propose(self, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """One variation of a parent, or of two."""
        rng = np.random.default_rng(key.seed())
        if self.context == "none":
            return _proposal("Random", random_block(rng, self.deepest, budget), (), archive)
        parent, other = self._parent(archive, rng), self._parent(archive, rng)
        one, two = (Block.from_json(archive[row]["agent"]["blocks"] or []) for row in (parent, other))
        if rng.random() < CROSSING and parent != other:
            return _proposal("Cross", fitted(crossed(one, two, rng), budget, rng), (parent, other), archive)
        name = list(OPERATORS)[int(rng.integers(len(OPERATORS)))]
        return _proposal(name, fitted(OPERATORS[name](one, rng), budget, rng), (parent,), archive)

    def reflect(self, proposal: Proposal, archive: Sequence[Entry], budget: int, round: int, key: Key) -> Proposal:
        """Another proposal where this one is not new, or asks for more than the budget."""
        for i in range(self.tries):
            block = Block.from_json(proposal.agent["blocks"] or [])
            if calls(block) <= budget and self._is_new(block, archive):
                break
            proposal = self.propose(archive, budget, key.fold("again", i))
        return proposal

    def debug(self, proposal: Proposal, error: str, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """One block replaced."""
        rng = np.random.default_rng(key.seed())
        block = replaced(Block.from_json(proposal.agent["blocks"] or []), rng)
        return _proposal("Repair", fitted(block, budget, rng), proposal.parents, archive)

    def _parent(self, archive: Sequence[Entry], rng: np.random.Generator) -> int:
        rows = [i for i, entry in enumerate(archive) if entry["agent"]["blocks"] is not None]
        if self.context == "last":
            return rows[-1]
        if self.context == "seeds":
            rows = [i for i in rows if archive[i]["generation"] == 0]
        ranked = sorted(rows, key=lambda i: (mean(archive[i]), -i))
        weight = np.arange(1, len(ranked) + 1, dtype=float)
        return int(rng.choice(ranked, p=weight / weight.sum()))

    def _is_new(self, block: Block, archive: Sequence[Entry]) -> bool:
        known = (Block.from_json(entry["agent"]["blocks"]) for entry in archive if entry["agent"]["blocks"])
        return all(distance(block, other) >= self.novelty for other in known)


CROSSING = 0.25
"""The share of proposals that have two parents."""


def _proposal(how: str, block: Block, parents: tuple[int, ...], archive: Sequence[Entry]) -> Proposal:
    names = " and ".join(archive[row]["agent"]["name"] for row in parents)
    thought = f"{how}: {names}" if names else f"{how}: a tree of the grammar"
    return Proposal(agent(f"{spelled(block)}", thought, block), parents)


def spelled(block: Block) -> str:
    """A short name: kinds and counts from the leaves to the root."""
    count = next((f" {value}" for name, value in block.options if name in (*COUNTED, "keep")), "")
    inner = " + ".join(spelled(b) for b in block.inputs)
    return f"{inner} > {block.kind}{count}" if inner else f"{block.kind}{count}"


def random_block(rng: np.random.Generator, deepest: int, budget: int) -> Block:
    """A random tree that fits the budget."""
    return fitted(_grown(rng, deepest), budget, rng)


def _grown(rng: np.random.Generator, deepest: int) -> Block:
    kinds = LEAVES if deepest <= 1 else tuple(KINDS)
    kind = kinds[int(rng.integers(len(kinds)))]
    inputs = [_grown(rng, deepest - 1) for _ in range(KINDS[kind].inputs)]
    return _drawn(kind, rng, *inputs)


def _drawn(kind: str, rng: np.random.Generator, *inputs: Block) -> Block:
    """A block with random options."""
    options = {name: values[int(rng.integers(len(values)))] for name, values in KINDS[kind].options.items()}
    return make(kind, *inputs, **options)


def fitted(block: Block, budget: int, rng: np.random.Generator) -> Block:
    """The tree at the budget: counts lowered until its calls are within, or raised at random as long as they are."""
    block = affordable(block, budget, rng)
    while larger := [found for found in _raised(block) if calls(block) < calls(found) <= budget]:
        block = larger[int(rng.integers(len(larger)))]
    return block


def _raised(block: Block) -> Iterator[Block]:
    """The tree with one count more, at every place."""
    for path, inner in block.walk():
        for name, value in inner.options:
            if name in COUNTED and value + 1 in KINDS[inner.kind].options[name]:
                yield block.put(path, inner.but(**{name: value + 1}))


def affordable(block: Block, budget: int, rng: np.random.Generator) -> Block:
    """The tree with counts lowered at random, and then blocks removed, until its calls are within the budget."""
    while calls(block) > budget:
        high = [
            (path, name, value)
            for path, inner in block.walk()
            for name, value in inner.options
            if name in COUNTED and value > COUNTS[0]
        ]
        if high:
            path, name, value = high[int(rng.integers(len(high)))]
            block = block.put(path, block.at(path).but(**{name: value - 1}))
        else:
            block = deleted(block, rng)
    return block


def _place(block: Block, rng: np.random.Generator, inner: bool = False) -> tuple[int, ...]:
    paths = [path for path, found in block.walk() if found.inputs or not inner]
    return paths[int(rng.integers(len(paths)))] if paths else ()


def inserted(block: Block, rng: np.random.Generator) -> Block:
    """A block around a random one; where it has two inputs the other is a random leaf."""
    path = _place(block, rng)
    kinds = (*UNARY, *BINARY)
    kind = kinds[int(rng.integers(len(kinds)))]
    more = [_grown(rng, 1)] if kind in BINARY else []
    return block.put(path, _drawn(kind, rng, block.at(path), *more))


def deleted(block: Block, rng: np.random.Generator) -> Block:
    """A random block gives way to one of its inputs."""
    path = _place(block, rng, inner=True)
    found = block.at(path)
    return block.put(path, found.inputs[int(rng.integers(len(found.inputs)))]) if found.inputs else block


def replaced(block: Block, rng: np.random.Generator) -> Block:
    """Another kind with as many inputs at a random place."""
    path = _place(block, rng)
    found = block.at(path)
    kinds = {0: LEAVES, 1: UNARY, 2: BINARY}[len(found.inputs)]
    return block.put(path, _drawn(kinds[int(rng.integers(len(kinds)))], rng, *found.inputs))


def changed(block: Block, rng: np.random.Generator) -> Block:
    """Another value for a random option."""
    places = [(path, name) for path, inner in block.walk() for name, _ in inner.options]
    if not places:
        return block
    path, name = places[int(rng.integers(len(places)))]
    found = block.at(path)
    values = [value for value in KINDS[found.kind].options[name] if value != found[name]]
    return block.put(path, found.but(**{name: values[int(rng.integers(len(values)))]}))


def crossed(one: Block, other: Block, rng: np.random.Generator) -> Block:
    """A random part of one tree in the place of a random part of another."""
    return one.put(_place(one, rng), other.at(_place(other, rng)))


OPERATORS: dict[str, Operator] = {
    "Insert": inserted,
    "Delete": deleted,
    "Replace": replaced,
    "Change": changed,
}
