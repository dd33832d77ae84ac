"""Agents in the sandbox: what they get, what they are held to, and that they reach no further than their own life."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import Experiment, Incompatible, Key, Outcome
from metaloop.engine import Engine
from metaloop.testing.toys import Words
from metaloop_adas import answers, judging
from metaloop_adas.archive import Agent
from metaloop_adas.blocks import KINDS, Block, calls, make, written
from metaloop_adas.learner import AgentSystem
from metaloop_adas.seeds import SEEDS, agent, scaled, seeds
from metaloop_adas.solver import SimulatedSolver
from metaloop_adas.tasks import Puzzles
from metaloop_adas.variation import random_block

CERTAIN = SimulatedSolver(
    insight=400.0, reading=400.0, misreading=0.0, silence=0.0, taste=0.0, editing=0.0, attention=0.0, judgement=0.0
)
"""It solves every task that has one best program; a story's words may speak for several."""


def lived(source: str, n: int = 3, learner: AgentSystem | None = None, domain: str = "grid") -> Outcome:
    own = Agent(name="own", thought="", code=source, blocks=None)
    family = Puzzles.model_validate({"domain": domain, "count": n})
    return Engine(learner or AgentSystem()).live(own, judging.whole(family, Key.of(0)), Key.of(1).split(n))


@pytest.mark.parametrize("domain", ["grid", "listfn", "arith"])
def test_every_seed_runs_within_its_calls_and_a_certain_solver_makes_it_right(domain: str) -> None:
    learner = AgentSystem(model=CERTAIN)
    tasks = judging.whole(Puzzles.model_validate({"domain": domain, "count": 10}), Key.of(0))
    for own in (*seeds(), *scaled(12)):
        out = Engine(learner).live(own, tasks, Key.of(1).split(10))
        assert out.info is None
        assert out.metrics["calls"].max() <= calls(Block.from_json(own["blocks"] or [])) <= 12
        assert out.fitness.mean() > (0.25 if domain == "arith" else 0.75), own["name"]


def test_seeds_make_as_many_calls_as_in_the_paper() -> None:
    assert [calls(block) for _, block in SEEDS.values()] == [1, 6, 4, 5, 2, 4, 2]
    assert all(calls(Block.from_json(own["blocks"] or [])) >= 11 for own in scaled(12))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_random_blocks_are_within_the_budget_and_survive_json(seed: int) -> None:
    block = random_block(np.random.default_rng(seed), 4, 12)
    assert calls(block) <= 12
    assert Block.from_json(block.to_json()) == block
    compile(written(block), "agent", "exec")


def test_every_block_is_written_as_code_that_runs() -> None:
    leaf = make("sample", n=2)
    for kind, known in KINDS.items():
        plain = make(kind, *[leaf] * known.inputs)
        second = plain.but(**{name: values[1] for name, values in known.options.items()})
        for block in {plain, second}:
            out = lived(agent("", "", block)["code"], n=2)
            assert out.info is None, (kind, out.info)
            assert out.metrics["calls"].max() <= calls(block) <= 12


def test_the_call_beyond_the_budget_is_refused() -> None:
    greedy = """def forward(self, taskInfo):
    solver = LLMAgentBase(["code"], "Solver")
    while True:
        solver([taskInfo], "Solve the task.")
"""
    out = lived(greedy)
    assert out.metrics["calls"].tolist() == [12.0] * 3
    assert out.fitness.sum() == 0
    assert out.info is not None
    assert "budget of 12 calls" in out.info[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "must define one function"),
        ("def forward(self, taskInfo):\n    return 1 / 0", "ZeroDivisionError"),
        ("def forward(self, taskInfo)", "SyntaxError"),
        ("def forward(self, taskInfo):\n    LLMAgentBase([], 'a')([taskInfo], '')", "1 to 20 fields"),
        (
            "def forward(self, taskInfo):\n    LLMAgentBase(['code'], 'a', temperature=10**400)([taskInfo], '')",
            "int too large",
        ),
        ("def forward(self, taskInfo):\n    return open('/etc/passwd').read()", "Error"),
        ("def forward(self, taskInfo):\n    import socket\n    socket.create_connection(('1.1.1.1', 53), 1)", "Error"),
    ],
)
def test_what_fails_is_told_and_scores_nothing(source: str, said: str) -> None:
    out = lived(source, n=2)
    assert out.fitness.tolist() == [0, 0]
    assert out.info is not None
    assert said in out.info[0]


def test_a_life_that_ends_the_process_takes_no_other_with_it() -> None:
    ends = """def forward(self, taskInfo):
    import os
    if len(self.examples[0]["input"]) == 2:
        os._exit(1)
    return LLMAgentBase([self.solution_field], "Solver")([taskInfo], "Solve the task. Think step by step.")[0].content
"""
    learner = AgentSystem(model=CERTAIN)
    out = lived(ends, 8, learner)
    tasks = judging.whole(Puzzles(count=8), Key.of(0))
    died = [len(task["train"][0]["input"]) == 2 for task in tasks]
    assert 0 < sum(died) < 8
    assert [bool(failed) for failed in out.metrics["failed"].tolist()] == died


def test_an_agent_that_forges_what_lives_end_with_scores_nothing() -> None:
    forged = """def forward(self, taskInfo):
    import sys
    sys.modules["program"].Life.start = lambda life: life.waiting.put(life)
    sys.modules["program"].solve = lambda tasks: "all right"
"""
    learner = AgentSystem(together=2)
    out = lived(forged, 4, learner)
    assert out.fitness.tolist() == [0.0] * 4
    assert out.info is not None
    assert "protocol" in out.info[3]


def test_nothing_is_carried_from_task_to_task() -> None:
    counting = """def forward(self, taskInfo, seen=[]):
    seen.append(1)
    return len(seen)
"""
    learner = AgentSystem()
    own = Agent(name="", thought="", code=counting, blocks=None)
    lives = learner.begin(own, judging.whole(Puzzles(count=4), Key.of(0)), Key.of(1).split(4))
    assert [life["answer"] for row in lives for life in row] == [1, 1, 1, 1]


def test_empty_replies_are_counted_apart() -> None:
    out = lived(seeds()[0]["code"], learner=AgentSystem(model=SimulatedSolver(silence=1.0)))
    assert out.metrics["empty"].tolist() == [1.0] * 3
    assert out.metrics["failed"].tolist() == [0.0] * 3


def test_agents_refuse_tasks_that_are_no_puzzles() -> None:
    with pytest.raises(Incompatible, match="adas/puzzles"):
        Experiment(tasks=Words(), learner=AgentSystem(), steps=1)


@pytest.mark.parametrize(
    ("answer", "expected", "is_right"),
    [
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]], True),
        ("((1, 2), (3, 4))", [[1, 2], [3, 4]], True),
        ([[1, 2]], [[1, 2], [3, 4]], False),
        ([[True, 2]], [[1, 2]], False),
        ("The answer is 1,204 marbles.", 1204, True),
        ("either 3 or 4", 3, False),
        ("42.0", 42, True),
        ("[7]", 7, False),
        ("__import__('os').system('true')", 0, False),
        ("", 0, False),
        (None, 0, False),
        ("[" * 4000, 0, False),
    ],
)
def test_answers_are_read_as_data(answer: object, expected: object, is_right: bool) -> None:
    assert answers.right(answer, expected) is is_right
