"""What the claims measure: searches at equal evaluations, one value per seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from metaloop import Experiment, Key, Outcome, tree
from metaloop.claims import Sample, Setting
from metaloop.meta_optimizer import AnyMetaOptimizer
from metaloop.objective import TaskObjective
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_rl.atari import AtariNet
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.pendulum import Pendulum
from metaloop_rl.learners.episodic import BEHAVIOUR, Episodic, EpisodicGym
from metaloop_rl.specs import GymControlSpec
from metaloop_rl.tasks import Environments
from torch import Tensor

from metaloop_deep_ga.ga import DeepGA
from metaloop_deep_ga.genome import Genome
from metaloop_deep_ga.jobs import MAZE, MAZE_GA, NAVIGATOR, NETWORK
from metaloop_deep_ga.maze import SUCCESS, HardMaze

Search = Literal["novelty", "fitness", "random", "evolution strategy"]

GENERATIONS = 50, 80
"""In the maze, of a plain and a full measurement."""
TOGETHER = 10
"""So many generations' thetas are looked at in one batch."""
CONTROL_GENERATIONS = 25
TESTS = 200
"""Fresh episodes of each test."""

MAZE_SEARCHES: dict[Search, AnyMetaOptimizer] = {
    "novelty": MAZE_GA.but(objective="novelty"),
    "fitness": MAZE_GA,
    "random": MAZE_GA.but(parents=0),
    "evolution strategy": EvolutionStrategy(population=256, sigma=0.1, lr=0.1),
}
CONTROL_GA = DeepGA(population=64, parents=10, sigma=0.5, candidates=5, validations=10)
CONTROL_ES: AnyMetaOptimizer = EvolutionStrategy(population=78, sigma=0.5, lr=0.5)
"""As many evaluations as the GA with those of its candidates: 25 x 78 x 4 beside 25 x (65 x 4 + 5 x 10)."""
BESIDE_GOAL = Environments(env=HardMaze(start_x=31.0, start_y=24.0))
"""The maze where it deceives nobody: what searches that fail are broken with."""
SWING = Environments(env=Pendulum())
NOISY = Environments(env=CartPole(max_steps=200))
NOISY_GA = DeepGA(population=64, parents=10, sigma=0.1, candidates=10, validations=30)


def seeded(setting: Setting, experiment: Experiment, seed: int) -> Experiment:
    """The experiment under one seed of the setting."""
    return experiment.but(seed=seed, device=setting.device)


def maze_solved(search: Search) -> Callable[[Setting], Sample]:
    """C1, C2: whether a search reached the goal, 1 or 0 for each seed.

    Broken: novelty is not looked at; for the searches that fail, the robot starts beside the goal.
    """

    def measure(setting: Setting) -> Sample:
        meta, tasks = MAZE_SEARCHES[search], MAZE
        if setting.broken and search == "novelty":
            meta = MAZE_SEARCHES["fitness"]
        elif setting.broken:
            tasks = BESIDE_GOAL
        generations = GENERATIONS[setting.full]
        experiment = Experiment(tasks=tasks, learner=NAVIGATOR, meta_optimizer=meta, steps=generations, task_batch=1)
        found = []
        for i, seed in enumerate(setting.seeds):
            setting.progress(f"maze, {search}", i / len(setting.seeds))
            found.append(float(_least_distance(seeded(setting, experiment, seed)) < SUCCESS))
        return Sample(found)

    return measure


def _least_distance(experiment: Experiment) -> float:
    """The least distance to the goal that any theta of a search ended at; the search stops soon after it is there."""
    objective: TaskObjective[Any] = TaskObjective(experiment.engine, experiment.tasks, {}, 1, experiment.root)
    least, progress, passed = float("inf"), experiment.begin(), []
    while not experiment.ended(progress) and least >= SUCCESS:
        progress = experiment.advance(progress)
        passed.append(progress.theta)
        if len(passed) == TOGETHER or experiment.ended(progress):
            with experiment.scope():
                ends = objective.many(tree.stack(passed))
            least = min(least, float(_distances(experiment, ends).min()))
            passed = []
    return least


def _distances(experiment: Experiment, ends: Outcome) -> Tensor:
    """From where episodes ended to the goal."""
    env = experiment.tasks.env  # type: ignore[attr-defined]
    x, y = (ends.metrics[f"{BEHAVIOUR}{i}"] for i in (0, 1))
    return torch.hypot(x - env.goal_x, y - env.goal_y)


def control(setting: Setting, meta: AnyMetaOptimizer, *, broken: bool = False) -> list[float]:
    """The mean return of test episodes of Pendulum after a search, for each seed. Broken: after none."""
    experiment = Experiment(
        tasks=SWING,
        learner=Episodic(model=NETWORK),
        meta_optimizer=meta,
        steps=0 if broken else CONTROL_GENERATIONS,
        task_batch=4,
    )

    def run() -> list[float]:
        found = []
        for i, seed in enumerate(setting.seeds):
            setting.progress(f"control, {type(meta).__name__}", i / len(setting.seeds))
            own = seeded(setting, experiment, seed)
            found.append(float(own.evaluate(_advanced(own).theta, n=TESTS, name="test").fitness.mean()))
        return found

    return setting.share(f"control {broken} {meta.model_dump_json()}", run)


def _advanced(experiment: Experiment) -> Any:
    """The progress at the end of an experiment."""
    progress = experiment.begin()
    for _ in range(experiment.total_steps):
        progress = experiment.advance(progress)
    return progress


def beside_random_search(setting: Setting) -> Sample:
    """C3: test returns of the GA and of random search. Broken: the GA's first theta."""
    return Sample(control(setting, CONTROL_GA, broken=setting.broken), control(setting, CONTROL_GA.but(parents=0)))


def beside_evolution_strategy(setting: Setting) -> Sample:
    """C4: test costs of the GA and of an evolution strategy. Broken: the GA's first theta."""
    treatment, baseline = control(setting, CONTROL_GA, broken=setting.broken), control(setting, CONTROL_ES)
    return Sample([-value for value in treatment], [-value for value in baseline])


def reconstruction_error(setting: Setting) -> Sample:
    """C5a: the largest difference between evolved weights and those from their seeds.

    Broken: mutations are added in the reverse order.
    """
    experiment = Experiment(
        tasks=Environments(env=HardMaze(max_steps=20)),
        learner=NAVIGATOR,
        meta_optimizer=MAZE_GA.but(population=30),
        steps=20,
        task_batch=1,
    )
    return Sample([_reconstruction_error(seeded(setting, experiment, seed), setting) for seed in setting.seeds])


def _reconstruction_error(experiment: Experiment, setting: Setting) -> float:
    progress, spec, worst = _advanced(experiment), experiment.tasks.spec, 0.0
    parents, genomes = progress.meta["parents"], progress.meta["genomes"]
    pairs = [(progress.meta["best"][0], progress.theta)]
    pairs += [(genomes[i], tree.index(parents, i)) for i in range(3)]
    for genome, evolved in pairs:
        stored = Genome.from_bytes(genome.to_bytes())
        if setting.broken:
            stored = Genome(torch.cat([stored.seeds[:1], stored.seeds[1:].flip(0)]), stored.sigmas.flip(0))
        back = stored.weights(lambda key: experiment.learner.init(spec, key), experiment.torch_device)
        worst = max(worst, *(float((back[name] - value).abs().max()) for name, value in evolved.items()))
    return worst


def compressed(setting: Setting) -> Sample:
    """C5b: bytes of weights over bytes of seeds. Broken: what is stored are the weights."""
    learner = EpisodicGym(model=AtariNet(size="large"), initialisation="fan_in")
    spec = GymControlSpec(observation=(4, 84, 84), actions=18, horizon=5000)
    size = sum(value.nbytes for value in learner.init(spec, Key.of(0)).values())
    found = []
    for seed in setting.seeds:
        genome = Genome.first(seed)
        for mutation in range(50):
            genome = genome.mutated(seed + mutation, 0.002)
        found.append(size / (size if setting.broken else len(genome.to_bytes())))
    return Sample(found)


def optimism(setting: Setting) -> Sample:
    """C6: reported return less that of test episodes, without and with judging candidates again.

    Broken: the two are exchanged.
    """
    without, again = NOISY_GA.but(validations=0), NOISY_GA
    if setting.broken:
        without, again = again, without
    return Sample(_gaps(setting, without), _gaps(setting, again))


def _gaps(setting: Setting, meta: DeepGA) -> list[float]:
    experiment = Experiment(
        tasks=NOISY,
        learner=Episodic(model=NETWORK, temperature=1.0),
        meta_optimizer=meta,
        steps=10,
        task_batch=1,
    )
    found = []
    for i, seed in enumerate(setting.seeds):
        setting.progress(f"optimism, {meta.validations} validations", i / len(setting.seeds))
        own = seeded(setting, experiment, seed)
        progress = _advanced(own)
        found.append(progress.meta["score"] - float(own.evaluate(progress.theta, n=TESTS, name="test").fitness.mean()))
    return found
