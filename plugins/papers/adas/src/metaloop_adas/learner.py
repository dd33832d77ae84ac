"""Agents as learners: theta is a program, and to adapt to a task is to run its `forward` in the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, ClassVar, Literal, Self, TypedDict

import torch
from metaloop import Incompatible, Key, Learner, Outcome, Spec
from metaloop.outcome import outcome
from metaloop_sandbox import Program, Sandbox
from pydantic import Field

from metaloop_adas import answers
from metaloop_adas.archive import Agent
from metaloop_adas.domain import Task
from metaloop_adas.domains import experts
from metaloop_adas.model import SOLUTIONS, Conversation, FoundationModel, Request
from metaloop_adas.seeds import seeds
from metaloop_adas.solver import SimulatedSolver
from metaloop_adas.tasks import PuzzleSpec

FRAMEWORK = resources.files("metaloop_adas").joinpath("framework.py").read_text()
SANDBOX = Sandbox(processes=64, output_bytes=64_000_000, cpu_seconds=20)
"""A thread for each life, and one that speaks with the parent."""


class Life(TypedDict):
    """How one agent fared on one task."""

    answer: Any
    error: str | None
    """What it raised, or what stopped it."""
    calls: int
    """Calls of the foundation model."""
    empty: int
    """Those that came back with nothing."""


class AgentSystem(Learner[Agent, list[Task], list[list[Life]]]):
    """Runs an agent on tasks: one sandboxed process for each agent, its source afresh for each task.

    Every agent has the same number of calls of the foundation model for one question. The call beyond it raises
    RuntimeError in the agent's code.
    """

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "object"

    model: FoundationModel = Field(default=SimulatedSolver(), description="the foundation model of agents' modules")
    sandbox: Sandbox = Field(default=SANDBOX, description="where agents' source runs")
    budget: int = Field(default=12, ge=1, description="calls of the foundation model for one question")
    repeats: int = Field(default=1, ge=1, description="times that each question is asked (paper: 5 on ARC)")
    together: int = Field(default=40, ge=1, le=60, description="questions at the same time (paper: 32 to 48)")

    @classmethod
    def example(cls) -> Self:
        """A strong solver, so that few tasks are enough."""
        return cls(model=SimulatedSolver.example())

    def check(self, spec: Spec) -> None:
        """Puzzles only."""
        if not isinstance(spec, PuzzleSpec):
            raise Incompatible(
                f"AgentSystem answers puzzles with examples and a test (adas/puzzles), not {type(spec).__name__}"
            )
        self.model.language(spec.domain)

    def init(self, spec: Spec, key: Key) -> Agent:
        """Chain of thought."""
        return seeds()[0]

    def begin(self, theta: Agent, tasks: list[Task], keys: Key) -> list[list[Life]]:
        """Ask every task's question `repeats` times: `[task][repeat]`."""
        rounds = keys.fold(torch.arange(self.repeats, device=keys.device)[:, None]).data.T.tolist()  # [task, repeat]
        asked = [task for task in tasks for _ in range(self.repeats)]
        lives = self._lives(theta, asked, [word & ((1 << 63) - 1) for row in rounds for word in row])
        return [lives[i : i + self.repeats] for i in range(0, len(lives), self.repeats)]

    def evaluate(self, theta: Agent, state: list[list[Life]], tasks: list[Task], keys: Key) -> Outcome:
        """The share of right answers; calls, empty replies and failures for each question; the first error as info."""
        expected = [task["test"]["output"] for task in tasks]
        fitness = _means(
            [
                [answers.right(life["answer"], value) for life in lives]
                for lives, value in zip(state, expected, strict=True)
            ]
        )
        metrics = {name: _means([[life[name] for life in lives] for lives in state]) for name in ("calls", "empty")}
        metrics["failed"] = _means([[life["error"] is not None for life in lives] for lives in state])
        errors = [next((life["error"] for life in lives if life["error"]), None) for lives in state]
        return outcome(loss=1 - fitness, fitness=fitness, metrics=metrics, info=errors if any(errors) else None)

    def _lives(self, agent: Agent, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Life]:
        """As many at a time as there are threads, in one process."""
        if not tasks:
            return []
        found: list[Life] = []
        source = f"{FRAMEWORK}\n\nAGENT, LANGUAGE = {agent['code']!r}, {self.model.language(tasks[0]['domain'])!r}\n"
        single = self.sandbox.but(
            cpu_seconds=max(self.sandbox.cpu_seconds / 10, 1), wall_seconds=max(self.sandbox.wall_seconds / 10, 3)
        )
        with (
            ThreadPoolExecutor(self.together) as pool,
            Running(self.sandbox, source) as running,
            Running(single, source) as alone,
        ):
            for start in range(0, len(tasks), self.together):
                part = slice(start, start + self.together)
                lives = self._part(running, tasks[part], seeds[part], pool)
                if lives is None:
                    each = zip(tasks[part], seeds[part], strict=True)
                    lives = [life for task, seed in each for life in self._part(alone, [task], [seed], pool) or ()]
                found += lives
        return found

    def _part(
        self, running: Running, tasks: Sequence[Task], seeds: Sequence[int], pool: ThreadPoolExecutor
    ) -> list[Life] | None:
        """Lives at the same time; None where one of several ended the process: then each is lived again, alone."""
        served = [Served(session, self.budget) for session in self.model.sessions(tasks, seeds)]

        def serve(requests: Any) -> list[dict[str, Any]]:
            replies = pool.map if self.model.waits else map
            return list(replies(lambda request: served[request[0]].reply(*request[1:]), requests))

        told = [
            {
                "train": task["train"],
                "test": task["test"]["input"],
                "text": self.model.describe(task),
                "experts": experts(task["domain"]),
            }
            for task in tasks
        ]
        answer = running.program.call("solve", told, calls={"serve": serve})
        if not answer.ok and len(tasks) > 1:
            return None
        error = "protocol: this is not what lives end with" if answer.ok else f"{answer.reason}: {answer.error}"
        ends: Any = answer.value if answer.ok and _are_ends(answer.value, len(tasks)) else [[None, error]] * len(tasks)
        return [
            Life(answer=value, error=error, calls=one.calls, empty=one.empty)
            for (value, error), one in zip(ends, served, strict=True)
        ]


class Running:
    """A program that is started again where it has died."""

    def __init__(self, sandbox: Sandbox, source: str) -> None:
        self.sandbox, self.source = sandbox, source
        self._program: Program | None = None

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._program is not None:
            self._program.close()

    @property
    def program(self) -> Program:
        """One that lives."""
        if self._program is None or not self._program.alive:
            self.__exit__()
            self._program = self.sandbox.start(self.source)
        return self._program


class Served:
    """The calls of one life: counted, and refused beyond the budget."""

    def __init__(self, session: Conversation, budget: int) -> None:
        self.session, self.budget = session, budget
        self.calls = self.empty = 0

    def reply(self, what: str, argument: Any) -> dict[str, Any]:
        """`fields` that the model filled, and what became of the solution among them; or why it was `refused`."""
        if what == "run":
            return {"fields": {}, "runs": self.session.runs([str(argument)])}
        if self.calls >= self.budget:
            return {"refused": f"the budget of {self.budget} calls for one question is spent"}
        try:
            request = checked(argument)
        except ValueError as error:
            return {"refused": str(error)}
        fields = self.session.query(request)
        self.calls += 1
        self.empty += not any(fields.values())
        return {"fields": fields, "runs": self.session.runs([fields[name] for name in SOLUTIONS if name in fields])}


def _are_ends(value: Any, n: int) -> bool:
    """Whether a value that an agent's process sent is an answer and an error for each of `n` lives."""
    return (
        isinstance(value, list)
        and len(value) == n
        and all(isinstance(end, list) and len(end) == 2 and isinstance(end[1], str | None) for end in value)
    )


def checked(request: Any) -> Request:
    """A request as it should be: it comes from code that nobody has read.

    Raises:
        ValueError: what is wrong.
    """
    try:
        fields = [str(name)[:100] for name in request["fields"]]
        infos = [
            [str(name), str(author), str(content), int(number)] for name, author, content, number in request["infos"]
        ]
        role, instruction = str(request["role"]), str(request["instruction"])
        temperature = min(max(float(request["temperature"]), 0.0), 2.0)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(
            f"a module's call has fields, a role, an instruction, a temperature and infos ({error})"
        ) from error
    if not 1 <= len(fields) <= 20:
        raise ValueError(f"a module's reply has 1 to 20 fields, not {len(fields)}")
    return {"fields": fields, "role": role, "instruction": instruction, "temperature": temperature, "infos": infos}


def _means(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.get_default_dtype()).mean(1)
