"""A program in the sandbox, as its parent sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from metaloop_sandbox.answer import Answer, Json
from metaloop_sandbox.mechanisms import Mechanism

if TYPE_CHECKING:
    from metaloop_sandbox.sandbox import Sandbox


class Program:
    """One sandboxed process that has run a source. Stopped (SIGSTOP) between calls."""

    started: Answer
    """How running the source went."""

    def __init__(self, sandbox: Sandbox, mechanism: Mechanism, source: str) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether calls can be made; false once a call was killed."""
        raise NotImplementedError

    def call(
        self,
        function: str,
        *arguments: Json,
        calls: Mapping[str, Callable[..., Json]] = {},  # noqa: B006
        budget: int | None = None,
    ) -> Answer:
        """Run `function(*arguments)` inside, serving its calls to `calls`, at most `budget` of them.

        Inside, each name in `calls` is a global function of positional JSON arguments. What it raises as TypeError,
        ValueError or LookupError reaches the code as a RuntimeError; anything else ends the program and is raised
        here. A call beyond the budget raises `BudgetExceeded` (a RuntimeError) in the code.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Kill the process and remove its scratch folder."""
        raise NotImplementedError
