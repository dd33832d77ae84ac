"""The sandbox: limits, the mechanism that enforces them, and the least that will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from metaloop.component import Component
from pydantic import Field

from metaloop_sandbox.answer import Answer, Json
from metaloop_sandbox.mechanism import Mechanism
from metaloop_sandbox.mechanisms import Protection, choose
from metaloop_sandbox.program import Program


class Sandbox(Component):
    """Runs Python code that nobody has read: no network, no files but a scratch folder, no environment, limits.

    The code sees the standard library and nothing else that is installed. It is one process that can't fork.
    """

    cpu_seconds: float = Field(
        default=10, gt=0, description="processor time of one call, and of the source when it is first run"
    )
    wall_seconds: float = Field(
        default=30, gt=0, description="wall clock of one call, less the time that the parent's functions take"
    )
    memory_mb: int = Field(default=512, ge=64, description="address space of the process")
    scratch_mb: int = Field(
        default=16, ge=1, description="size of the scratch folder, the current one, which goes when the program ends"
    )
    processes: int = Field(default=1, ge=1, le=64, description="threads of the one process; with 1 it can start none")
    output_bytes: int = Field(
        default=1_000_000,
        ge=1_000,
        description="what one call may send: its answer and its arguments for the parent",
    )
    mechanism: Mechanism | Literal["auto"] = Field(
        default="auto", description="what enforces it; auto takes the strongest that works here"
    )
    minimum: Mechanism = Field(
        default="landlock", description="the weakest that will do: bubblewrap > landlock > seccomp > rlimits"
    )

    def describe(self) -> Protection:
        """Which mechanism runs the code here, what it holds off, and what it does not.

        Raises:
            UserError: nothing that works here is as strong as `minimum`.
        """
        return choose(self.mechanism, self.minimum)

    def start(self, source: str) -> Program:
        """One sandboxed process that has run `source` as a module; a context manager, which kills it at the end.

        What the source raises is told by the answer of every call, and by `Program.started`. The process is killed
        when the thread that started it ends.

        Raises:
            UserError: nothing that works here is as strong as `minimum`.
        """
        return Program(self, self.describe().mechanism, source)


def run(
    source: str,
    function: str,
    *arguments: Json,
    calls: Mapping[str, Callable[..., Json]] | None = None,
    budget: int | None = None,
    sandbox: Sandbox | None = None,
) -> Answer:
    """Start `source`, call one function, end it; see `Program.call`."""
    with (sandbox or Sandbox()).start(source) as program:
        return program.call(function, *arguments, calls=calls or {}, budget=budget)
