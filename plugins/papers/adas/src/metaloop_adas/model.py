"""The foundation model behind an agent's modules: simulated, or a chat model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from metaloop import Component

from metaloop_adas.domain import Task

Request = Mapping[str, Any]
"""`fields` to fill, `role`, `instruction`, `temperature`, and `infos`: lists of name, author, content, round."""

SOLUTIONS = ("code", "answer")
"""Fields that hold a solution."""

Language = Literal["steps", "python", "words"]
"""What solutions are written in: a domain's own language, Python, or the answer itself."""


class Conversation(Protocol):
    """What a model says about one task, and what becomes of its solutions."""

    def query(self, request: Request) -> dict[str, str]:
        """A text for each field; all empty where the model has nothing to say."""
        ...

    def runs(self, codes: Sequence[str]) -> dict[str, Any]:
        """What becomes of solutions in a domain's own language: `passed` examples, an `error`, the test's `output`.

        Empty where solutions are written in another language.
        """
        ...


class FoundationModel(Component):
    """Answers the requests of agents' modules."""

    waits: ClassVar[bool] = False
    """Whether a request waits for another machine, so that several are better made at the same time."""

    def language(self, domain: str) -> Language:
        """What its solutions in a domain are written in."""
        raise NotImplementedError(f"{type(self).__name__} must say what its solutions are written in")

    def describe(self, task: Task) -> str:
        """What `taskInfo` says."""
        return str(task["text"])

    def sessions(self, tasks: Sequence[Task], seeds: Sequence[int]) -> Sequence[Conversation]:
        """A conversation for each task; `seeds` name its randomness."""
        raise NotImplementedError(f"{type(self).__name__} must implement sessions")
