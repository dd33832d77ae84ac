"""An agent on 40 new grid puzzles, beside one puzzle after the other in the main interpreter, as the paper's code does.

Both run the same source on the same tasks with the same random numbers, and give the same answers. The peer runs
every program of the language on one task's grids at a time and the agent in this process; metaloop runs them on all
tasks' grids at once and the agent in the sandbox, all lives at the same time.
"""

from __future__ import annotations

from typing import Any

from common import arguments, compare, report
from metaloop import Key
from metaloop_adas.archive import Agent
from metaloop_adas.domain import Task
from metaloop_adas.domains import DOMAINS, experts
from metaloop_adas.judging import whole
from metaloop_adas.learner import FRAMEWORK, AgentSystem, Served
from metaloop_adas.seeds import scaled
from metaloop_adas.tasks import Puzzles

COUNT = 40


def forget() -> None:
    """Tasks are new to the solver."""
    DOMAINS["grid"]._kept.clear()


class Ours:
    """The learner."""

    def __init__(self, agent: Agent, tasks: list[Task], keys: Key) -> None:
        self.agent, self.tasks, self.keys, self.learner = agent, tasks, keys, AgentSystem()

    def answers(self) -> list[Any]:
        """One for each task."""
        forget()
        return [life["answer"] for (life,) in self.learner.begin(self.agent, self.tasks, self.keys)]

    def __call__(self) -> None:
        self.answers()


class Sequential(Ours):
    """One task after the other."""

    def answers(self) -> list[Any]:
        """One for each task."""
        forget()
        names: dict[str, Any] = {}
        exec(f"{FRAMEWORK}\nAGENT = {self.agent['code']!r}\n", names)
        seeds = self.keys.fold(0).data.tolist()  # as the learner's first repeat
        return [self._one(names, task, seed & ((1 << 63) - 1)) for task, seed in zip(self.tasks, seeds, strict=True)]

    def _one(self, names: dict[str, Any], task: Task, seed: int) -> Any:
        (session,) = self.learner.model.sessions([task], [seed])
        served = Served(session, self.learner.budget)
        names["serve"] = lambda requests: [served.reply(*request[1:]) for request in requests]
        told = {"train": task["train"], "test": task["test"]["input"], "text": "", "experts": experts("grid")}
        return names["solve"]([told])[0][0]


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "")
    tasks, keys = whole(Puzzles(count=COUNT), Key.of(0)), Key.of(1).split(COUNT)
    rows, facts = [], {}
    for agent in scaled(12):
        if agent["name"].startswith(("Chain", "Quality")):
            ours, theirs = Ours(agent, tasks, keys), Sequential(agent, tasks, keys)
            facts[f"different answers, {agent['name']}"] = sum(
                a != b for a, b in zip(ours.answers(), theirs.answers(), strict=True)
            )
            pair = ("metaloop", ours), ("sequential", theirs)
            rows.append(compare(f"{agent['name']}, {COUNT} tasks", *pair, rounds=given.rounds, calls=(1, 1)))
    report("evaluating an agent", rows, facts, given)


if __name__ == "__main__":
    main()
