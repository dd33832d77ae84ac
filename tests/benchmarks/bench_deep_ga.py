"""Generations of the Deep GA beside EvoTorch's genetic algorithm: the same network, population and environment.

Both judge 256 new networks (11-16-16-2) a generation in the hard maze of 400 steps with the same tensor code; ours
judges the elite again beside them. EvoTorch's is elitist: the best half of parents and children. What is left when
episodes are cut to one step is what the algorithms themselves cost.
"""

from __future__ import annotations

import torch
from common import Comparison, arguments, compare, report
from evotorch import Problem
from evotorch.algorithms import GeneticAlgorithm
from evotorch.operators import GaussianMutation
from evotorch.tools import set_default_logger_config
from metaloop.experiment import Experiment
from metaloop.objective import TaskObjective
from metaloop_deep_ga.jobs import MAZE_GA, NAVIGATOR
from metaloop_deep_ga.maze import HardMaze
from metaloop_rl.tasks import Environments
from torch import Tensor

POPULATION = 256


class Ours:
    """`Experiment.advance` with the Deep GA."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.progress = experiment, experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)

    @property
    def best(self) -> float:
        """The best fitness so far."""
        return float(self.progress.meta["score"])


class Theirs:
    """EvoTorch's genetic algorithm on flat weights."""

    def __init__(self, experiment: Experiment) -> None:
        theta = experiment.begin().theta
        objective: TaskObjective[dict[str, Tensor]] = TaskObjective(
            experiment.engine, experiment.tasks, {}, 1, experiment.root
        )
        sizes = [value.numel() for value in theta.values()]

        def fitness(rows: Tensor) -> Tensor:
            parts = rows.as_subclass(Tensor).split(sizes, dim=1)
            named = zip(theta.items(), parts, strict=True)
            return objective.many({name: part.reshape(-1, *like.shape) for (name, like), part in named}).fitness[:, 0]

        problem = Problem(
            "max", fitness, solution_length=sum(sizes), initial_bounds=(-0.3, 0.3), vectorized=True, seed=0
        )
        mutation = GaussianMutation(problem, stdev=MAZE_GA.sigma)
        self.search = GeneticAlgorithm(problem, operators=[mutation], popsize=POPULATION, re_evaluate=False)

    def __call__(self) -> None:
        self.search.step()

    @property
    def best(self) -> float:
        """The best fitness so far."""
        return float(self.search.status["best_eval"])


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", rounds=20)
    set_default_logger_config(logger_level=40)
    rows: list[Comparison] = []
    facts: dict[str, float] = {}
    for steps, rounds in ((400, given.rounds), (1, 5 * given.rounds)):
        experiment = Experiment(
            tasks=Environments(env=HardMaze(max_steps=steps)),
            learner=NAVIGATOR.but(behaviour="none"),
            meta_optimizer=MAZE_GA.but(population=POPULATION),
            steps=10**6,
            task_batch=1,
            device="cpu",
        )
        ours, theirs = Ours(experiment), Theirs(experiment)
        name = f"a generation of {POPULATION}, {steps} steps an episode"
        rows.append(compare(name, ("metaloop", ours), ("EvoTorch", theirs), rounds=rounds))
        facts[f"{steps} steps: generations a second, metaloop"] = 1e3 / rows[-1].first_ms
        facts[f"{steps} steps: generations a second, EvoTorch"] = 1e3 / rows[-1].second_ms
        facts[f"{steps} steps: best return, metaloop"] = ours.best
        facts[f"{steps} steps: best return, EvoTorch"] = theirs.best
    facts["weights"] = sum(value.numel() for value in experiment.begin().theta.values())
    with torch.no_grad():
        report("Deep GA", rows, facts, given)


if __name__ == "__main__":
    main()
