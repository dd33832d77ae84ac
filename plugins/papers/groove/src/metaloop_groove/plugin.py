"""What the plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_groove"


def _small(*rules: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut meta-training to one window of two short lives, with the networks and grids as they are."""
    cuts: tuple[tuple[str, object], ...] = (
        ("steps", 1),
        ("task_batch", 2),
        ("learner.steps", 5),
        ("learner.workers", 2),
        ("learner.segment", 3),
        ("learner.episodes", 1),
        ("checkpoint_every", 1),
    )
    return tuple((f"stages.{rule}.{name}", value) for rule in rules for name, value in cuts)


def _quick(path: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut an antagonist's life to nothing and its judgement to one episode."""
    return tuple((f"{path}.{name}", value) for name, value in (("steps", 0), ("workers", 2), ("episodes", 1)))


_PAIR = (*_small("lpg", "groove"), *_quick("stages.groove.tasks.score.antagonist"))
_STANDING: tuple[tuple[str, object], ...] = (
    ("stages.standing.n", 2),
    ("stages.standing.a2c.steps", 20),
    ("stages.standing.a2c.workers", 16),
    ("stages.standing.a2c.episodes", 8),
)

SPEC = Plugin(
    name="groove",
    summary="GROOVE: learned update rules meta-trained on levels picked by algorithmic regret",
    paper=Paper(
        title="Discovering General Reinforcement Learning Algorithms with Adversarial Environment Design",
        authors="Jackson, Jiang, Parker-Holder, Vuorio, Lu, Farquhar, Whiteson, Foerster",
        year=2023,
        venue="NeurIPS",
        identifier="arXiv:2310.02782",
        family="meta-reinforcement learning",
    ),
    components=(
        Part("groove/level-buffer", "tasks", f"{_HERE}.buffer:LevelBuffer", "replays the levels that score highest"),
        Part("groove/handcrafted", "tasks", f"{_HERE}.levels:Handcrafted", "families made by hand in one grid"),
        Part("groove/a2c", "learner", f"{_HERE}.a2c:A2C", "advantage actor-critic on many levels at once"),
        Part("groove/algorithmic-regret", "part", f"{_HERE}.scores:AlgorithmicRegret", "against any other learner"),
        Part("groove/optimal-regret", "part", f"{_HERE}.scores:OptimalRegret", "against a grid's optimal policy"),
        Part("groove/reported", "part", f"{_HERE}.scores:Reported", "what the learner reports, as value losses"),
        Part("groove/pool", "tasks", f"{_HERE}.pool:Pool", "a fixed set of levels of a family"),
        Part("groove/minatar", "part", f"{_HERE}.minatar:MinAtar", "a game of MinAtar, live"),
        Part("groove/standing", "stage", f"{_HERE}.stages:Standing", "rules on held-out levels beside A2C"),
        Part("groove/transfer", "stage", f"{_HERE}.transfer:Transfer", "rules in MinAtar's games"),
    ),
    jobs=(
        Job(
            "groove",
            f"{_HERE}.jobs:groove",
            "GROOVE beside LPG on uniform levels, on held-out levels",
            dry=(*_PAIR, *_STANDING),
        ),
        Job(
            "groove/scores",
            f"{_HERE}.jobs:scores",
            "other ways to pick levels: value losses, the optimal policy, by hand",
            dry=(
                *_small("regret", "l1-value-loss", "positive-value-loss", "uniform", "handcrafted"),
                *_quick("stages.regret.tasks.score.antagonist"),
                *_STANDING,
            ),
        ),
        Job(
            "groove/pool",
            f"{_HERE}.jobs:pool",
            "rules trained on few levels",
            dry=(*_small(*(f"levels-{n}" for n in (4, 16, 64, 256, 1024))), *_STANDING),
        ),
        Job(
            "groove/minatar",
            f"{_HERE}.jobs:minatar",
            "GROOVE and LPG in MinAtar's Breakout and Asterix",
            dry=(
                *_PAIR,
                ("stages.transfer.updates", 1),
                ("stages.transfer.seeds", 1),
                ("stages.transfer.workers", 2),
                ("stages.transfer.episodes", 1),
                ("stages.transfer.games", ("Breakout", "Asterix")),
            ),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
