"""What the core asks of every family, learner, meta-optimizer and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_adas.learner import AgentSystem
from metaloop_adas.search import ArchiveSearch
from metaloop_adas.tasks import Puzzles


@testing.parametrize(
    Puzzles.example(), Puzzles(domain="listfn", count=3, split="test"), Puzzles(domain="arith", count=3)
)
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(AgentSystem.example(), tasks=Puzzles(count=6))
def test_agents(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    ArchiveSearch.example().but(seeds=("Chain of thought", "Self-refine")),
    learner=AgentSystem.example(),
    tasks=Puzzles(count=40),
    outer_steps=2,
)
def test_the_search(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("adas")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
