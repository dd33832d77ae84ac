"""Agents on sets of tasks outside a search: tests, and hand-designed agents at the whole budget."""

from __future__ import annotations

from collections.abc import Sequence

from metaloop import Key
from metaloop.engine import Engine
from metaloop.tasks import AnyTaskFamily

from metaloop_adas.archive import Agent
from metaloop_adas.domain import Task
from metaloop_adas.learner import AgentSystem
from metaloop_adas.seeds import scaled, seeds


def accuracy(learner: AgentSystem, agent: Agent, tasks: list[Task], key: Key) -> float:
    """The share of right answers."""
    return float(Engine(learner).live(agent, tasks, key.split(len(tasks))).fitness.mean())


def whole(family: AnyTaskFamily, key: Key) -> list[Task]:
    """All tasks of a set."""
    tasks: list[Task] = family.sample(family.begin(key), family.size or 0, key).tasks
    return tasks


def hand_designed(budget: int) -> list[Agent]:
    """The seeds as in the paper, and with as many calls as the budget allows."""
    return [*seeds(), *scaled(budget)]


def best_of(learner: AgentSystem, agents: Sequence[Agent], tasks: list[Task], key: Key) -> tuple[Agent, float]:
    """The agent that is best on some tasks, and its accuracy there."""
    found = [accuracy(learner, agent, tasks, key) for agent in agents]
    top = max(range(len(agents)), key=lambda i: (found[i], -i))
    return agents[top], found[top]
