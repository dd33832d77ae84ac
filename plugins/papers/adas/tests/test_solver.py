"""The simulated solver: its strength, which is fixed, and how it takes up what it is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metaloop_adas.domains import DOMAINS
from metaloop_adas.solver import SETTINGS, Session, SimulatedSolver


def request(*infos: tuple[str, str], role: str = "Helpful Assistant", instruction: str = "") -> dict[str, Any]:
    told = [[name, "someone", content, 0] for name, content in infos]
    asked = instruction or "Please think step by step and then solve the task."
    return {"fields": ["thinking", "code"], "role": role, "instruction": asked, "temperature": 0.5, "infos": told}


def sessions(domain: str = "grid", n: int = 1, solver: SimulatedSolver | None = None) -> list[Session]:
    tasks = DOMAINS[domain].draw(np.random.default_rng(0), n, "validation")
    return (solver or SETTINGS["usual"]).sessions(tasks, range(n))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("setting", "low", "high"), [("usual", 0.05, 0.15), ("weaker", 0.02, 0.09)])
def test_one_call_of_chain_of_thought_solves_as_many_tasks_as_in_the_paper(
    domain: str, setting: str, low: float, high: float
) -> None:
    right = [
        session.table.right[session.domain.index[code]]
        for session in sessions(domain, 200, SETTINGS[setting])
        for _ in range(5)
        if (code := session.query(request())["code"])
    ]
    assert low < np.sum(right) / 1000 < high


def test_the_same_seed_gives_the_same_conversation() -> None:
    one, other = ([session.query(request()) for _ in range(10)] for session in sessions() + sessions())
    assert one == other
    assert len({str(reply) for reply in one}) > 3


def test_feedback_leads_to_edits_of_the_best_program() -> None:
    (session,) = sessions(solver=SimulatedSolver(editing=1.0, attention=1.0, silence=0.0))
    shown = (
        ("code", "crop > transpose"),
        ("feedback", "passes 2 of 3"),
        ("code", "invert"),
        ("feedback", "passes 0 of 3"),
    )
    best = session.domain.index["crop > transpose"]
    replies = [session.query(request(*shown))["code"] for _ in range(50)]
    assert all(session.domain.neighbours(best)[session.domain.index[reply]] for reply in replies)
    assert not {"crop > transpose", "invert"} & set(replies)


def test_a_final_answer_is_one_of_those_shown_and_more_often_the_better() -> None:
    (session,) = sessions(solver=SimulatedSolver(silence=0.0))
    order = session.table.evidence.argsort()
    worst, best = (session.domain.texts[i] for i in (order[0], order[-1]))
    asked = request(("code", worst), ("code", best), instruction="Give a final answer.")
    replies = [session.query(asked)["code"] for _ in range(100)]
    assert set(replies) <= {worst, best}
    assert replies.count(best) > 60


@pytest.mark.parametrize("told", [{"role": "expert on colours"}, {"principle": "colours"}])
def test_an_expert_and_a_principle_raise_their_own_steps(told: dict[str, str]) -> None:
    def share(asked: dict[str, Any]) -> float:
        (session,) = sessions(solver=SimulatedSolver(silence=0.0))
        column = session.domain.experts.index("colours")
        codes = [session.query(asked)["code"] for _ in range(300)]
        return float(np.mean([session.domain.expertise[session.domain.index[code], column] for code in codes]))

    infos = [("principle", told["principle"])] if "principle" in told else []
    assert share(request(*infos, role=told.get("role", ""))) > share(request()) + 0.05


def test_silence_is_an_empty_reply() -> None:
    (session,) = sessions(solver=SimulatedSolver(silence=1.0))
    assert session.query(request()) == {"thinking": "", "code": ""}
