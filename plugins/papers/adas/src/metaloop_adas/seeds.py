"""The hand-designed agents that the archive begins with (paper, section 4: five for ARC, seven elsewhere)."""

from __future__ import annotations

from metaloop_adas.archive import Agent
from metaloop_adas.blocks import Block, calls, make, written

SEEDS: dict[str, tuple[str, Block]] = {
    "Chain of thought": (
        "Thinking step by step before answering makes complex tasks easier.",
        make("sample", n=1, temperature=0.5),
    ),
    "Self-consistency": (
        "Several chains of thought at a higher temperature, judged together, are more reliable than one.",
        make("judge", make("sample", n=5, temperature=0.7), temperature=0.1),
    ),
    "Self-refine": (
        "An answer gets better when it is revised by the feedback on it.",
        make("refine", make("sample", n=1, temperature=0.5), rounds=3, temperature=0.5),
    ),
    "Debate": (
        "Experts of different fields who hear each other find better solutions.",
        make("judge", make("debate", make("panel", n=2, temperature=0.5), rounds=1, temperature=0.5), temperature=0.1),
    ),
    "Step-back abstraction": (
        "The principle behind a task, found first, helps to solve it.",
        make("step_back", n=1, temperature=0.5),
    ),
    "Quality-diversity": (
        "Diverse attempts, the best of them by the examples, make a good final answer.",
        make(
            "judge",
            make("rank", make("vary", make("sample", n=1, temperature=0.5), n=2, temperature=0.5), keep=2),
            temperature=0.1,
        ),
    ),
    "Dynamic role assignment": (
        "A task is best solved by the expert that it needs.",
        make("route", n=1, temperature=0.5),
    ),
}
"""By name: the thought behind it, and its blocks."""


def agent(name: str, thought: str, block: Block) -> Agent:
    """An agent made of blocks."""
    return Agent(name=name, thought=thought, code=written(block), blocks=block.to_json())


def seeds() -> list[Agent]:
    """The seven agents as in the paper."""
    return [agent(name, thought, block) for name, (thought, block) in SEEDS.items()]


def scaled(budget: int) -> list[Agent]:
    """The same structures with as many samples and rounds as the budget allows: what a user gets without a search.

    Those that end with several answers, which the paper's don't, vote.
    """
    return [
        agent(f"{name}, {budget} calls", thought, _scaled(block, budget)) for name, (thought, block) in SEEDS.items()
    ]


def _scaled(block: Block, budget: int) -> Block:
    """The largest of its kind: the count that repeats most of its calls is raised as long as the budget holds."""
    grown = block
    for path, inner in block.walk():
        name = next((name for name, _ in inner.options if name in ("rounds", "n")), None)
        if name is None:
            continue
        for value in range(inner[name] + 1, budget + 1):
            larger = block.put(path, inner.but(**{name: value}))
            if calls(grown) < calls(larger) <= budget:
                grown = larger
        if grown is not block:
            break
    return make("vote", grown) if grown.kind in ("sample", "step_back", "route") else grown
