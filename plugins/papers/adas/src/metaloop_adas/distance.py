"""How different two agents are: the cost of edits from one tree of blocks to another (Selkow 1977)."""

from __future__ import annotations

from functools import lru_cache

from metaloop_adas.blocks import Block


@lru_cache(maxsize=65536)
def distance(one: Block, other: Block) -> float:
    """Blocks added or removed count 1 each, another kind 1, another option its share of the options.

    Only whole subtrees are added or removed.
    """
    same = one.kind == other.kind
    options = sum(a != b for a, b in zip(one.options, other.options, strict=True)) if same else 0
    label = options / max(len(one.options), 1) if same else 1.0
    row = [0.0]
    for b in other.inputs:
        row.append(row[-1] + b.count)
    for a in one.inputs:
        before, row = row, [row[0] + a.count]
        for j, b in enumerate(other.inputs):
            row.append(min(before[j + 1] + a.count, row[j] + b.count, before[j] + distance(a, b)))
    return label + row[-1]
