"""What proposes agents: the meta agent's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from metaloop import Component, Key

from metaloop_adas.archive import Agent, Entry


class Proposal(NamedTuple):
    """An agent that has not been evaluated."""

    agent: Agent
    parents: tuple[int, ...] = ()
    """Rows of the archive that it was made from, where that is known."""


class MetaAgent(Component):
    """Designs agents (paper, section 3). Every method is pure.

    `budget` is how many calls of the foundation model an agent has for one question.
    """

    def propose(self, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """A new agent, from all that is in the archive."""
        raise NotImplementedError(f"{type(self).__name__} must implement propose")

    def reflect(self, proposal: Proposal, archive: Sequence[Entry], budget: int, round: int, key: Key) -> Proposal:
        """Look at a proposal again: is it new, is it right? The same or a better one; `round` counts from 1."""
        raise NotImplementedError(f"{type(self).__name__} must implement reflect")

    def debug(self, proposal: Proposal, error: str, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """Mend a proposal that failed when it was run."""
        raise NotImplementedError(f"{type(self).__name__} must implement debug")
