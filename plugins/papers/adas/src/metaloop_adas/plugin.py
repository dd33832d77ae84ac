"""What the plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_adas"
_SMALL = (
    ("stages.search.steps", 1),
    ("stages.search.eval_tasks", 2),
    ("stages.search.tasks", "adas/puzzles"),
    ("stages.search.tasks.count", 2),
    ("stages.search.eval_on", "adas/puzzles"),
    ("stages.search.eval_on.count", 2),
    ("stages.search.learner.repeats", 1),
    ("stages.search.learner.model", "adas/simulated-solver"),
    ("stages.search.meta_optimizer.meta_agent", "adas/typed-variation"),
)
"""One generation on two puzzles, without a network."""

SPEC = Plugin(
    name="adas",
    summary="Automated design of agentic systems: Meta Agent Search",
    paper=Paper(
        title="Automated Design of Agentic Systems",
        authors="Hu, Lu, Clune",
        year=2024,
        venue="ICLR 2025",
        identifier="arXiv:2408.08435",
        family="agent design",
    ),
    components=(
        Part("adas/puzzles", "tasks", f"{_HERE}.tasks:Puzzles", "grids, list functions, word problems"),
        Part("adas/arc-files", "tasks", f"{_HERE}.tasks:ArcFiles", "ARC's tasks from a folder"),
        Part("adas/agents", "learner", f"{_HERE}.learner:AgentSystem", "agents that are programs, in the sandbox"),
        Part("adas/search", "meta-optimizer", f"{_HERE}.search:ArchiveSearch", "Meta Agent Search"),
        Part("adas/typed-variation", "part", f"{_HERE}.variation:TypedVariation", "a meta agent without a model"),
        Part("adas/chat-meta-agent", "part", f"{_HERE}.chat_meta:ChatMetaAgent", "a meta agent that is a chat model"),
        Part("adas/simulated-solver", "part", f"{_HERE}.solver:SimulatedSolver", "a simulated foundation model"),
        Part("adas/chat-model", "part", f"{_HERE}.chat_model:ChatModel", "a chat model in agents' modules"),
        Part("adas/chat", "part", f"{_HERE}.chat:Chat", "an OpenAI-compatible endpoint, budget and transcript"),
        Part("adas/report", "stage", f"{_HERE}.stages:Report", "a search's agents on the test set, and the tree"),
    ),
    jobs=(
        Job("adas", f"{_HERE}.jobs:grids", "a search on grid puzzles, offline", dry=_SMALL),
        Job(
            "adas/openai",
            f"{_HERE}.jobs:openai",
            "a search by chat models at an OpenAI-compatible endpoint",
            dry=_SMALL,
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
