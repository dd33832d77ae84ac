"""The peer: genetic programming by DEAP over the same grammar, as a meta agent that has no archive but a population."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from metaloop import Key
from metaloop.errors import UserError

from metaloop_adas.blocks import KINDS, Block, make
from metaloop_adas.variation import fitted

Judge = Callable[[Sequence[Block]], list[float]]
"""Accuracies of agents, evaluated together."""

POPULATION = 8


class _Pool:
    """The type of blocks in DEAP's grammar."""


def evolve(judge: Judge, first: Sequence[Block], evaluations: int, budget: int, key: Key) -> Block:
    """The agent with the best accuracy of a genetic program's run (tournaments of 3, subtree crossover and mutation).

    Its first population is the hand-designed agents, as the archive's first entries, and random trees. What any other
    tree stands for is its agent at the whole budget, as with the meta agent without a model.

    Raises:
        UserError: DEAP is not installed.
    """
    try:
        from deap import algorithms, base, gp, tools
    except ModuleNotFoundError as error:
        raise UserError("genetic programming needs DEAP: pip install 'metaloop-adas[peers]'") from error

    class Fitness(base.Fitness):  # type: ignore[misc]
        weights = (1.0,)

    class Tree(gp.PrimitiveTree):  # type: ignore[misc]
        def __init__(self, content: Any) -> None:
            super().__init__(content)
            self.fitness = Fitness()

    pset = _grammar(gp)
    held = random.getstate()
    random.seed(key.seed())  # DEAP draws from the global generator
    try:
        box = base.Toolbox()
        box.register("grow", gp.genHalfAndHalf, pset=pset, min_=1, max_=3)
        box.register("select", tools.selTournament, tournsize=3)
        box.register("mate", gp.cxOnePoint)
        box.register("mutate", gp.mutUniform, expr=lambda pset, type_: gp.genFull(pset, 1, 2, type_), pset=pset)
        people = [Tree(_to_tree(block, pset)) for block in first]
        people += [Tree(box.grow()) for _ in range(max(POPULATION - len(people), 0))]
        blocks = [*first, *(_agent(gp.compile(tree, pset), budget) for tree in people[len(first) :])]
        best, spent = _judged(people, blocks, judge, evaluations)
        for _ in range(20 * evaluations):
            if spent >= evaluations:
                break
            parents = [box.clone(tree) for tree in box.select(people, POPULATION)]
            children = [c for c in algorithms.varAnd(parents, box, 0.5, 0.5) if not c.fitness.valid]
            blocks = [_agent(gp.compile(tree, pset), budget) for tree in children]
            found, more = _judged(children, blocks, judge, evaluations - spent)
            spent += more
            best = max(best, found, key=lambda pair: pair[0])
            people = tools.selBest([*people, *(c for c in children if c.fitness.valid)], POPULATION)
    finally:
        random.setstate(held)
    assert best[1] is not None
    return best[1]


def _judged(
    trees: Sequence[Any], blocks: Sequence[Block], judge: Judge, left: int
) -> tuple[tuple[float, Block | None], int]:
    """Give trees their fitness (-1 beyond what is left): the best of them, and how many evaluations it took."""
    blocks = blocks[:left]
    accuracies = judge(blocks) if blocks else []
    for tree in trees:
        tree.fitness.values = (-1.0,)
    for tree, accuracy in zip(trees, accuracies, strict=False):
        tree.fitness.values = (accuracy,)
    best = max(range(len(blocks)), key=lambda i: accuracies[i], default=None)
    return ((-1.0, None) if best is None else (accuracies[best], blocks[best])), len(blocks)


def _agent(block: Block, budget: int) -> Block:
    """What a tree stands for: the same at every time."""
    seed = zlib.crc32(json.dumps(block.to_json()).encode())
    return fitted(block, budget, np.random.default_rng(seed))


def _grammar(gp: Any) -> Any:
    """DEAP's typed grammar: every kind of block with a type for each of its options."""
    pset = gp.PrimitiveSetTyped("agent", [], _Pool)
    types: dict[tuple[Any, ...], type] = {}
    for kind, known in KINDS.items():
        for values in known.options.values():
            if values not in types:
                types[values] = type(f"Option{len(types)}", (), {})
                for value in values:
                    pset.addTerminal(value, types[values], name=f"o{len(types)}_{values.index(value)}")
        pset.addPrimitive(
            _maker(kind), [_Pool] * known.inputs + [types[v] for v in known.options.values()], _Pool, kind
        )
    pset.addTerminal(make("sample"), _Pool, name="one_sample")
    for made in types.values():  # a tree that has to end or to go on may do so at any type
        pset.addPrimitive(_same, [made], made, name=f"same_{made.__name__}")
    return pset


def _same(value: Any) -> Any:
    return value


def _maker(kind: str) -> Callable[..., Block]:
    inputs, names = KINDS[kind].inputs, tuple(KINDS[kind].options)

    def made(*arguments: Any) -> Block:
        return make(kind, *arguments[:inputs], **dict(zip(names, arguments[inputs:], strict=True)))

    return made


def _to_tree(block: Block, pset: Any) -> list[Any]:
    """A block as DEAP's prefix list."""
    nodes = {node.name: node for group in (*pset.primitives.values(), *pset.terminals.values()) for node in group}
    head = nodes[block.kind]
    found = [head]
    for inner in block.inputs:
        found += _to_tree(inner, pset)
    known = KINDS[block.kind]
    for (_, value), type_, values in zip(block.options, head.args[known.inputs :], known.options.values(), strict=True):
        found.append(pset.terminals[type_][values.index(value)])
    return found
