"""What the plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_deep_ga"


def _small(*stages: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut searches to one generation of two short lives."""
    cuts: tuple[tuple[str, object], ...] = (
        ("steps", 1),
        ("meta_optimizer.population", 2),
        ("meta_optimizer.candidates", 1),
        ("meta_optimizer.validations", 1),
        ("learner.max_steps", 5),
    )
    return tuple((f"stages.{stage}.{name}", value) for stage in stages for name, value in cuts)


SPEC = Plugin(
    name="deep-ga",
    summary="Deep Neuroevolution: truncation selection, seeds as genomes, novelty",
    paper=Paper(
        title="Deep Neuroevolution: Genetic Algorithms Are a Competitive Alternative for Training Deep Neural Networks "
        "for Reinforcement Learning",
        authors="Petroski Such, Madhavan, Conti, Lehman, Stanley, Clune",
        year=2017,
        venue="arXiv",
        identifier="arXiv:1712.06567",
        family="evolution",
    ),
    components=(
        Part("deep-ga/ga", "meta-optimizer", f"{_HERE}.ga:DeepGA", "a genetic algorithm on whole networks"),
        Part("deep-ga/hard-maze", "part", f"{_HERE}.maze:HardMaze", "a maze whose straight way is a dead end"),
        Part("deep-ga/endings", "stage", f"{_HERE}.stages:Endings", "where individuals ended in the maze"),
        Part("deep-ga/progress", "stage", f"{_HERE}.stages:Progress", "searches beside each other"),
        Part("deep-ga/dqn", "stage", f"{_HERE}.peers:Dqn", "deep Q-learning at as many frames"),
    ),
    jobs=(
        Job(
            "deep-ga",
            f"{_HERE}.jobs:maze",
            "fitness, novelty and random search in the hard maze",
            dry=_small("fitness", "novelty", "random"),
        ),
        Job(
            "deep-ga/control",
            f"{_HERE}.jobs:control",
            "the GA beside random search on MuJoCo",
            dry=(*_small("ga", "random"), ("stages.progress.tests", 1)),
        ),
        Job(
            "deep-ga/atari",
            f"{_HERE}.jobs:atari",
            "the GA beside random search and DQN on Frostbite",
            dry=(
                *_small("ga", "random"),
                ("stages.dqn.frames", 40),
                ("stages.dqn.tests", 1),
                ("stages.dqn.max_steps", 5),
                ("stages.progress.tests", 1),
            ),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
