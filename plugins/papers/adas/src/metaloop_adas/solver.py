"""A simulated foundation model: it draws programs of a domain's language from what it makes of a task.

It stands in for the paper's GPT-3.5 where there is no network. Its strength is fixed on plain chain of thought alone
(`SETTINGS`), before any search for agents was made, and is not tuned by anything that is measured with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from metaloop import Incompatible
from numpy.typing import NDArray
from pydantic import Field

from metaloop_adas.domain import Domain, Flags, Table, Task
from metaloop_adas.domains import DOMAINS
from metaloop_adas.model import SOLUTIONS, Conversation, FoundationModel, Language, Request

USUAL = 0.5
"""The temperature at which programs are drawn as they seem."""
COLDEST = 0.05


class SimulatedSolver(FoundationModel):
    """Programs are drawn by how their outputs resemble the examples, by taste, and by what it misreads in the task.

    - A role that names an expert raises programs with that expert's steps, and so does a principle among the infos.
    - Asked to think step by step, or given a principle, it looks at the examples with its full insight.
    - With an earlier program among the infos it mostly edits one step of the best (by the feedback beside it) or the
      last, and mostly avoids what was tried.
    - Asked for a final answer, it picks among the programs that it is shown by its noisy impression of them.
    - What it misreads in a task it misreads at every call: asking again is not asking afresh.
    """

    insight: float = Field(default=4.0, ge=0, description="weight of how much a program's outputs look like examples'")
    reading: float = Field(default=8.0, ge=0, description="the same where there are words instead of examples")
    haste: float = Field(default=0.7, ge=0, le=1, description="share of the insight without thinking step by step")
    taste: float = Field(default=0.7, ge=0, description="standard deviation of liking single steps")
    misreading: float = Field(default=1.0, ge=0, description="standard deviation of what is misread in a task")
    brevity: float = Field(default=3.0, ge=0, description="how much less likely a program is for each further step")
    expertise: float = Field(default=1.5, ge=0, description="weight of the role's (or the principle's) own steps")
    editing: float = Field(default=0.7, ge=0, le=1, description="probability of editing an earlier program")
    attention: float = Field(default=0.9, ge=0, le=1, description="probability of avoiding what was tried")
    judgement: float = Field(default=0.35, ge=0, description="standard deviation of impressions and confidence")
    silence: float = Field(default=0.02, ge=0, le=1, description="probability of an empty reply")
    bias: int = Field(default=0, ge=0, description="names its taste and what it misreads")

    @classmethod
    def example(cls) -> Self:
        """A strong one, for short tests."""
        return cls(insight=12.0, misreading=0.5)

    def language(self, domain: str) -> Language:
        """The domain's own language."""
        if domain not in DOMAINS:
            raise Incompatible(f"SimulatedSolver knows the domains {', '.join(DOMAINS)} and not {domain!r}")
        return "steps"

    @cached_property
    def _likings(self) -> dict[str, NDArray[np.float32]]:
        return {}

    def liking(self, domain: Domain) -> NDArray[np.float32]:
        """`[program]`: what a program has for it before a task is seen."""
        if domain.name not in self._likings:
            rng = np.random.default_rng([self.bias, len(domain.primitives)])
            steps = domain.programs >= 0
            taste = self.taste * rng.standard_normal(len(domain.primitives))
            liked = (taste[np.maximum(domain.programs, 0)] * steps).sum(1) - self.brevity * steps.sum(1)
            self._likings[domain.name] = liked.astype(np.float32)
        return self._likings[domain.name]

    def sessions(self, tasks: Sequence[Task], seeds: Sequence[int]) -> Sequence[Session]:
        """One session for each task: its tables and random numbers."""
        by_domain: dict[str, list[int]] = {}
        for i, task in enumerate(tasks):
            by_domain.setdefault(task["domain"], []).append(i)
        found: dict[int, Session] = {}
        for name, rows in by_domain.items():
            domain = DOMAINS[name]
            for i, table in zip(rows, domain.tables([tasks[i] for i in rows]), strict=True):
                found[i] = Session(self, domain, table, np.random.default_rng([self.bias, seeds[i]]))
        return [found[i] for i in range(len(tasks))]


@dataclass
class Session(Conversation):
    """One task's conversation: answers requests, and runs programs on the task's examples and test."""

    solver: SimulatedSolver
    domain: Domain
    table: Table
    rng: np.random.Generator
    _drawn: dict[tuple[float, str | None, float], NDArray[np.float64]] = field(default_factory=dict)

    def query(self, request: Request) -> dict[str, str]:
        """A text for each field; all empty where the model has nothing to say."""
        wanted, instruction = [str(name) for name in request["fields"]], str(request["instruction"]).lower()
        if self.rng.random() < self.solver.silence:
            return dict.fromkeys(wanted, "")
        hot = max(float(request["temperature"]), COLDEST)
        infos = request["infos"]
        principle = _last(infos, "principle")
        expert = self._expert(f"{request['role']} {principle}")
        careful = "step by step" in instruction or bool(principle)
        program = self._program(infos, instruction, careful, expert, hot)
        said = {"thinking": f"The examples look like {self.domain.texts[program]}.", "confidence": ""}
        said["confidence"] = f"{np.clip(self._impression(program), 0, 1):.2f}"
        for name in wanted:
            if name in SOLUTIONS:
                said[name] = self.domain.texts[program]
            elif name in ("principle", "choice"):
                first = int(self.domain.programs[program, 0])
                said[name] = self.domain.experts[self.domain.fields[first]]
        return {name: said.get(name, "") for name in wanted}

    def runs(self, codes: Sequence[str]) -> dict[str, Any]:
        """Look up what programs pass and answer; what can't be read passes nothing."""
        return {code: self._run(self.domain.index.get(code.strip())) for code in codes}

    def _run(self, program: int | None) -> dict[str, Any]:
        if program is None:
            failed = [False] * self.table.passed.shape[1]
            return {"passed": failed, "error": "this is no program of the language", "output": None}
        passed = self.table.passed[program].tolist()
        return {"passed": passed, "error": "", "output": self.domain.says(self.table, program)}

    def _program(self, infos: Sequence[Any], instruction: str, careful: bool, expert: str | None, hot: float) -> int:
        shown, passed = self._shown(infos)
        if shown and "final" in instruction:
            return self._judged(shown)
        if not shown:
            return self._draw(careful, expert, hot, None)
        if "other" in instruction and len(set(shown)) > 1 and self.rng.random() < 0.5:
            return self._judged(shown)
        support = np.ones(len(self.domain.texts), bool)
        if self.rng.random() < self.solver.editing:
            best = max(range(len(shown)), key=lambda i: (passed[i], i))
            support = self.domain.neighbours(shown[best])
        if self.rng.random() < self.solver.attention:
            support = support.copy()
            support[shown] = False
        return self._draw(careful, expert, hot, support)

    def _draw(self, careful: bool, expert: str | None, hot: float, support: Flags | None) -> int:
        full = self.solver.insight if self.table.passed.shape[1] else self.solver.reading
        insight = full * (1.0 if careful else self.solver.haste)
        about = (insight, expert, hot)
        if about not in self._drawn:
            logits = insight * self.table.evidence + self.solver.liking(self.domain) + self._misread
            if expert is not None:
                logits = logits + self.solver.expertise * self.domain.expertise[:, self.domain.experts.index(expert)]
            scaled = (logits - logits.max()) * (USUAL / hot)
            self._drawn[about] = np.exp(scaled, dtype=np.float64)
        weight = self._drawn[about]
        if support is not None and weight[support].sum() > 0:
            weight = np.where(support, weight, 0.0)
        total = weight.cumsum()
        return min(int(total.searchsorted(self.rng.random() * total[-1], side="right")), len(total) - 1)

    @cached_property
    def _misread(self) -> NDArray[np.float32]:
        """`[program]`: the same at every call about this task."""
        content = int(np.abs(self.table.cells.astype(np.int64)).sum() + 1000 * self.table.evidence.sum())
        noise = np.random.default_rng([self.solver.bias, content]).standard_normal(len(self.domain.texts), np.float32)
        return np.float32(self.solver.misreading) * noise

    def _impression(self, program: int) -> float:
        return float(self.table.evidence[program] + self.solver.judgement * self.rng.standard_normal())

    def _judged(self, shown: Sequence[int]) -> int:
        return max(shown, key=self._impression)

    def _shown(self, infos: Sequence[Any]) -> tuple[list[int], list[float]]:
        """Programs among the infos, and the share of examples that the feedback after each says it passes."""
        shown: list[int] = []
        passed: list[float] = []
        readable = False
        for name, _, content, _ in infos:
            if name in SOLUTIONS:
                program = self.domain.index.get(str(content).strip())
                readable = program is not None
                if program is not None:
                    shown.append(program)
                    passed.append(0.0)
            elif name == "feedback" and readable and (said := re.search(r"passes (\d+) of (\d+)", str(content))):
                passed[-1] = int(said[1]) / max(int(said[2]), 1)
        return shown, passed

    def _expert(self, words: str) -> str | None:
        return next((expert for expert in self.domain.experts if expert in words.lower()), None)


def _last(infos: Sequence[Any], wanted: str) -> str:
    """The content of the last info of a name."""
    return next((str(content) for name, _, content, _ in reversed(infos) if name == wanted), "")


SETTINGS: dict[str, SimulatedSolver] = {
    "usual": SimulatedSolver(),
    "weaker": SimulatedSolver(insight=3.0, reading=6.0),
    "stronger": SimulatedSolver(insight=5.0, reading=10.0),
    "differently biased": SimulatedSolver(bias=1),
}
"""The solver that is searched with, and three others for the claims."""
