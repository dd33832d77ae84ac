"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Options, Pipeline
from metaloop_basics.models import Mlp
from metaloop_rl.atari import AtariNet
from metaloop_rl.learners.episodic import Episodic, EpisodicGym
from metaloop_rl.tasks import Environments, GymTasks

from metaloop_deep_ga.ga import DeepGA
from metaloop_deep_ga.maze import HardMaze
from metaloop_deep_ga.peers import Dqn
from metaloop_deep_ga.stages import Endings, Progress

NETWORK = Mlp(widths=(16, 16), activation="tanh")
MAZE = Environments(env=HardMaze())
NAVIGATOR = Episodic(model=NETWORK, behaviour="final")
MAZE_GA = DeepGA(population=256, parents=20, sigma=0.1, validations=0, neighbours=25, archive=0.01)
"""Nothing in the maze is random, so nobody needs to be judged twice."""


def maze(profile: str = "cpu") -> Pipeline:
    """The hard maze: selection by fitness, by novelty, and random search."""
    generations, ga = 50, MAZE_GA.but(record=True)
    if profile == "gpu":
        generations, ga = 500, ga.but(population=20_000, parents=61, chunk=5000)
    searches = {
        "fitness": ga,
        "novelty": ga.but(objective="novelty"),
        "random": ga.but(parents=0),
    }
    stages: dict[str, Any] = {
        name: Experiment(tasks=MAZE, learner=NAVIGATOR, meta_optimizer=own, steps=generations, task_batch=1)
        for name, own in searches.items()
    }
    return Pipeline(name="deep-ga", stages={**stages, "endings": Endings(searches=tuple(searches))})


def control(profile: str = "cpu") -> Pipeline:
    """MuJoCo: Humanoid at the paper's settings, a short Swimmer on two cores."""
    if profile == "gpu":
        tasks, generations = GymTasks(id="Humanoid-v5"), 1000
        learner = EpisodicGym(model=Mlp(widths=(256, 256), activation="tanh"), episodes=5, initialisation="fan_in")
        ga = DeepGA(population=12_500, parents=625, sigma=0.00224, validations=30)
    else:
        tasks, generations = GymTasks(id="Swimmer-v5"), 12
        learner = EpisodicGym(model=NETWORK, max_steps=250)
        ga = DeepGA(population=24, parents=6, sigma=0.1, candidates=3, validations=2)
    return _beside_random_search(
        "deep-ga/control", tasks, learner, ga, generations, tests=20 if profile == "cpu" else 200
    )


def frostbite() -> GymTasks:
    """Frostbite with the paper's preprocessing: 1 to 30 no-ops, every action 4 frames, 4 grey frames of 84 x 84."""
    return GymTasks(
        id="ALE/Frostbite-v5",
        options=Options(frameskip=1, repeat_action_probability=0.0, full_action_space=False),
        wrappers=(
            ("AtariPreprocessing", Options(noop_max=30, frame_skip=4, screen_size=84, grayscale_obs=True)),
            ("FrameStackObservation", Options(stack_size=4)),
        ),
    )


def atari(profile: str = "cpu") -> Pipeline:
    """Frostbite, one of the games on which the GA did best: beside random search, and DQN at as many frames."""
    if profile == "gpu":
        generations, size, steps = 1000, "large", 5000
        ga = DeepGA(population=1000, parents=20, sigma=0.002, candidates=10, validations=30, chunk=50)
    else:
        generations, size, steps = 10, "small", 500
        ga = DeepGA(population=32, parents=8, sigma=0.005, candidates=3, validations=3)
    learner = EpisodicGym(model=AtariNet(size=size), initialisation="fan_in", max_steps=steps)
    tests = 200 if profile == "gpu" else 20
    pipeline = _beside_random_search("deep-ga/atari", frostbite(), learner, ga, generations, tests)
    stages = dict(pipeline.stages)
    progress = stages.pop("progress")
    stages["dqn"] = Dqn(like="ga", tests=tests, max_steps=steps)
    return pipeline.but(stages={**stages, "progress": progress.but(peers=("dqn",))})


def _beside_random_search(
    name: str, tasks: GymTasks, learner: EpisodicGym, ga: DeepGA, generations: int, tests: int
) -> Pipeline:
    """The GA, and random search with as many evaluations."""
    stages: dict[str, Any] = {
        stage: Experiment(tasks=tasks, learner=learner, meta_optimizer=own, steps=generations, task_batch=1)
        for stage, own in (("ga", ga), ("random", ga.but(parents=0)))
    }
    return Pipeline(name=name, stages={**stages, "progress": Progress(searches=("ga", "random"), tests=tests)})
