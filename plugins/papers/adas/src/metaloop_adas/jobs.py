"""The paper's experiments as jobs; `gpu` has the paper's settings and chat models, `cpu` a simulated solver."""

from __future__ import annotations

from metaloop import Experiment, Pipeline
from metaloop.tasks import AnyTaskFamily

from metaloop_adas.chat import Chat
from metaloop_adas.chat_meta import ChatMetaAgent
from metaloop_adas.chat_model import ChatModel
from metaloop_adas.learner import AgentSystem
from metaloop_adas.search import ArchiveSearch
from metaloop_adas.seeds import SEEDS
from metaloop_adas.stages import Report
from metaloop_adas.tasks import ArcFiles, Puzzles

ARC_SEEDS = tuple(name for name in SEEDS if name not in ("Step-back abstraction", "Dynamic role assignment"))
TEST = 200
"""Tasks of a test set here."""


def grids(profile: str = "cpu") -> Pipeline:
    """Grid puzzles: a search without a language model; `gpu`: ARC's files and chat models, as in the paper."""
    if profile == "gpu":
        return arc()
    return _search("adas", Puzzles(), Puzzles(split="test", count=TEST), AgentSystem(repeats=3), ArchiveSearch(), 25)


def openai(profile: str = "cpu") -> Pipeline:
    """Grid puzzles with chat models for agents and meta agent: any OpenAI-compatible endpoint.

    `cpu` is small, with a token budget; `gpu` has the paper's settings on ARC's files.
    """
    if profile == "gpu":
        return arc()
    cheap = Chat(token_budget=2_000_000)
    learner = AgentSystem(model=ChatModel(chat=cheap), together=16)
    search = ArchiveSearch(meta_agent=ChatMetaAgent(chat=cheap.but(max_tokens=4096)))
    return _search("adas-openai", Puzzles(count=10), Puzzles(split="test", count=20), learner, search, 3)


def arc() -> Pipeline:
    """The paper's settings on ARC: 20 and 60 tasks, 5 repeats, 25 generations, GPT-3.5 and GPT-4o."""
    learner = AgentSystem(model=ChatModel(), repeats=5, together=48)
    meta = ChatMetaAgent(chat=Chat(model="gpt-4o-2024-05-13", max_tokens=4096))
    search = ArchiveSearch(meta_agent=meta, seeds=ARC_SEEDS)
    return _search("adas", ArcFiles(count=20), ArcFiles(count=60, part=1), learner, search, 25)


def _search(
    name: str,
    tasks: AnyTaskFamily,
    test: AnyTaskFamily,
    learner: AgentSystem,
    search: ArchiveSearch,
    generations: int,
) -> Pipeline:
    """A search, and its agents on the test set."""
    experiment = Experiment(
        tasks=tasks,
        learner=learner,
        meta_optimizer=search,
        steps=generations,
        task_batch=None,
        eval_on=test,
        eval_tasks=test.size or 0,
        checkpoint_every=1,
        device="cpu",
    )
    return Pipeline(name=name, stages={"search": experiment, "report": Report()})
