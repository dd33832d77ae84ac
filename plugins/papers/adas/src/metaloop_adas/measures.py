"""What the claims measure: searches at an equal call budget for each question, chosen on validation, told on tests.

All of it is with the simulated solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from metaloop import Experiment, Key
from metaloop.claims import Sample, Setting

from metaloop_adas import gp, judging
from metaloop_adas.archive import Agent, Entry, best
from metaloop_adas.blocks import Block
from metaloop_adas.domain import Task
from metaloop_adas.learner import AgentSystem
from metaloop_adas.search import ArchiveSearch
from metaloop_adas.seeds import SEEDS, agent
from metaloop_adas.solver import SETTINGS
from metaloop_adas.tasks import Puzzles
from metaloop_adas.variation import TypedVariation

Context = Literal["archive", "seeds", "none"]
Domain = Literal["grid", "listfn", "arith"]

GENERATIONS, EARLY = (16, 30), 5
"""Of a plain and a full measurement, and early ones."""
VALIDATION, TEST = 40, 200
LEARNER = AgentSystem(repeats=3)
"""On validation each question is asked three times, on tests once."""
SEARCH = ArchiveSearch(samples=1000)
"""The interval is for a meta agent that reads it."""
OTHERS = tuple(name for name in SETTINGS if name != "usual")
SILENT = Agent(name="silent", thought="", code="def forward(self, taskInfo):\n    return None\n", blocks=None)
"""What treatments are broken with: an agent that answers nothing."""


def tasks(domain: Domain, split: Literal["validation", "test"]) -> Puzzles:
    """The sets of the claims."""
    return Puzzles(domain=domain, split=split, count=VALIDATION if split == "validation" else TEST)


def archives(setting: Setting, context: Context, solver: str = "usual") -> list[list[Entry]]:
    """The archive at the end of a search on grids, for each seed."""

    def run() -> list[list[Entry]]:
        found = []
        for i, seed in enumerate(setting.seeds):
            setting.progress(f"search, {context}, {solver} solver", i / len(setting.seeds))
            experiment = Experiment(
                tasks=tasks("grid", "validation"),
                learner=LEARNER.but(model=SETTINGS[solver]),
                meta_optimizer=SEARCH.but(meta_agent=TypedVariation(context=context)),
                steps=GENERATIONS[setting.full],
                task_batch=None,
                seed=seed,
                device="cpu",
            )
            progress = experiment.begin()
            for _ in range(GENERATIONS[setting.full]):
                progress = experiment.advance(progress)
            found.append(progress.meta["archive"])
        return found

    return setting.share(f"archives {context} {solver}", run)


def chosen(archive: Sequence[Entry], until: int = 10**6) -> Agent:
    """The agent with the best validation accuracy of those until a generation."""
    rows = [entry for entry in archive if entry["generation"] <= until]
    return rows[best(rows)]["agent"]


def found(setting: Setting, solver: str = "usual", until: int = 10**6) -> list[Agent]:
    """What the search found, for each seed. Broken: an agent that answers nothing."""
    if setting.broken:
        return [SILENT for _ in setting.seeds]
    return [chosen(archive, until) for archive in archives(setting, "archive", solver)]


def hand_designed(setting: Setting, domain: Domain = "grid", solver: str = "usual") -> list[Agent]:
    """The best hand-designed agent for each seed: as in the paper or at the whole budget, chosen on validation."""

    def run() -> list[Agent]:
        learner, picked = LEARNER.but(model=SETTINGS[solver]), []
        for i, seed in enumerate(setting.seeds):
            setting.progress(f"hand-designed agents, {domain}, {solver} solver", i / len(setting.seeds))
            root = Key.of(seed)
            questions = _questions(tasks(domain, "validation"), seed, "family")  # as the search's own
            agents = judging.hand_designed(learner.budget)
            picked.append(judging.best_of(learner, agents, questions, root.fold("hand-designed"))[0])
        return picked

    return setting.share(f"hand-designed {domain} {solver}", run)


def told(setting: Setting, agents: Sequence[Agent], domain: Domain = "grid", solver: str = "usual") -> list[float]:
    """The test accuracy of each seed's agent, on the seed's test set, with the seed's noise."""
    learner = LEARNER.but(model=SETTINGS[solver], repeats=1)
    return [_test(learner, own, seed, domain) for own, seed in zip(agents, setting.seeds, strict=True)]


def _test(learner: AgentSystem, own: Agent, seed: int, domain: Domain) -> float:
    questions = _questions(tasks(domain, "test"), seed, "test")
    return judging.accuracy(learner, own, questions, Key.of(seed).fold("test", "lives"))


@lru_cache(maxsize=256)
def _questions(family: Puzzles, seed: int, name: str) -> list[Task]:
    return judging.whole(family, Key.of(seed).fold(name))


def discovered(setting: Setting) -> Sample:
    """C1a: test accuracies of the found agent and of the best hand-designed one."""
    return Sample(told(setting, found(setting)), told(setting, hand_designed(setting)))


def discovered_elsewhere(setting: Setting) -> Sample:
    """C1b: the same, searched and tested with three other solvers; means over the three."""
    pairs = [
        (told(setting, found(setting, s), solver=s), told(setting, hand_designed(setting, solver=s), solver=s))
        for s in OTHERS
    ]
    return Sample(_means([treatment for treatment, _ in pairs]), _means([baseline for _, baseline in pairs]))


def progressed(setting: Setting) -> Sample:
    """C2a: test accuracies of what is best on validation after all generations, and after a few."""
    early = [chosen(archive, EARLY) for archive in archives(setting, "archive")]
    return Sample(told(setting, found(setting)), told(setting, early))


def beside(context: Context) -> Callable[[Setting], Sample]:
    """C2b, C2c: test accuracies after the search and after one that has no archive, at equal evaluations."""

    def measure(setting: Setting) -> Sample:
        others = [chosen(archive) for archive in archives(setting, context)]
        return Sample(told(setting, found(setting)), told(setting, others))

    return measure


def beside_gp(setting: Setting) -> Sample:
    """C2d: test accuracies after the search and after DEAP's genetic programming, at equal evaluations."""
    return Sample(told(setting, found(setting)), told(setting, evolved(setting)))


def evolved(setting: Setting) -> list[Agent]:
    """What DEAP's genetic programming found on the same validation sets, for each seed."""
    picked = []
    for i, seed in enumerate(setting.seeds):
        setting.progress("genetic programming", i / len(setting.seeds))
        root = Key.of(seed)
        questions = _questions(tasks("grid", "validation"), seed, "family")
        count = 0

        def judge(blocks: Sequence[Block], root: Key = root, questions: list[Task] = questions) -> list[float]:
            nonlocal count
            count += len(blocks)
            key, agents = root.fold("gp", count), [agent("", "", block) for block in blocks]
            return [judging.accuracy(LEARNER, own, questions, key.fold(i)) for i, own in enumerate(agents)]

        first = [block for name, (_, block) in SEEDS.items() if name in SEARCH.seeds]
        evaluations = len(first) + GENERATIONS[setting.full]
        picked.append(agent("evolved", "", gp.evolve(judge, first, evaluations, LEARNER.budget, root.fold("deap"))))
    return picked


def gains(setting: Setting, domain: Domain) -> list[float]:
    """Test accuracy of the agent found on grids in a domain, less that of the domain's best hand-designed agent."""
    own = told(setting, found(setting), domain)
    return [a - b for a, b in zip(own, told(setting, hand_designed(setting, domain), domain), strict=True)]


def transferred_near(setting: Setting) -> Sample:
    """C3a: the gain on list functions, and half of that on grids."""
    on_grids = gains(Setting(setting.seeds, setting.full, setting.device, memo=setting.memo), "grid")
    return Sample(gains(setting, "listfn"), [gain / 2 for gain in on_grids])


def transferred_far(setting: Setting) -> Sample:
    """C3b: test accuracies in arithmetic."""
    own = told(setting, found(setting), "arith")
    return Sample(own, told(setting, hand_designed(setting, "arith"), "arith"))


def across_models(setting: Setting) -> Sample:
    """C4: with how many of three other solvers the found agent beats the best hand-designed one there."""
    wins = [0] * len(setting.seeds)
    for solver in OTHERS:
        own = told(setting, found(setting), solver=solver)
        hand = told(setting, hand_designed(setting, solver=solver), solver=solver)
        wins = [n + (a > b) for n, a, b in zip(wins, own, hand, strict=True)]
    return Sample([float(n) for n in wins])


def optimism(setting: Setting) -> Sample:
    """C5: the best test accuracy of all agents, and that of the agent chosen on validation.

    Broken: the latter twice.
    """
    everything = archives(setting, "archive")
    reported = told(setting, [chosen(archive) for archive in everything])
    if setting.broken:
        return Sample(reported, reported)
    learner, highest = LEARNER.but(repeats=1), []
    for i, (archive, seed) in enumerate(zip(everything, setting.seeds, strict=True)):
        setting.progress("tests of all agents", i / len(setting.seeds))
        highest.append(max(_test(learner, entry["agent"], seed, "grid") for entry in archive))
    return Sample(highest, reported)


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]
