"""The genetic algorithm: selection, elites, novelty, and learners of other plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from metaloop import Experiment, Incompatible, Key, UserError, testing, tree
from metaloop.experiment import Progress
from metaloop.objective import TaskObjective
from metaloop.specs import Spec
from metaloop.testing.toys import Lines
from metaloop_basics.models import Mlp
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_deep_ga.ga import UNCHANGED, DeepGA
from metaloop_deep_ga.genome import first_key
from metaloop_deep_ga.maze import HardMaze
from metaloop_deep_ga.novelty import novelty
from metaloop_deep_ga.peers import Dqn
from metaloop_deep_ga.stages import Endings
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.learners.episodic import Episodic
from metaloop_rl.tasks import Environments

MAZE = Environments(env=HardMaze(max_steps=12))
POLICY = Episodic(model=Mlp(widths=(5,), activation="tanh"), behaviour="final")


@testing.parametrize(
    DeepGA.example(),
    DeepGA(population=16, parents=3, sigma=0.2, validations=0, chunk=5),
)
def test_meta_optimizers(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("deep-ga")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Episodic(model=Mlp(widths=(4,)), behaviour="final"), tasks=MAZE)
def test_policies_in_the_maze(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Dqn.example(), Endings.example(), HardMaze(max_steps=9, start_x=40.0))
def test_other_parts(check: Callable[[], None]) -> None:
    check()


def after(meta: DeepGA, generations: int, tasks: Any = MAZE, learner: Any = POLICY, **more: Any) -> Progress:
    experiment = Experiment(
        tasks=tasks, learner=learner, meta_optimizer=meta, steps=generations, **({"task_batch": 1} | more)
    )
    progress = experiment.begin()
    for _ in range(generations):
        progress = experiment.advance(progress)
    return progress


def test_parents_are_the_fittest_of_children_and_elite() -> None:
    meta = DeepGA(population=12, parents=4, sigma=0.3, validations=0)
    experiment = Experiment(tasks=MAZE, learner=POLICY, meta_optimizer=meta, steps=3, task_batch=1)
    progress = experiment.begin()
    best = -float("inf")
    for _ in range(3):
        before, progress = progress, experiment.advance(progress)
        fitness = [
            float(experiment.evaluate({name: value[i] for name, value in progress.meta["parents"].items()}).fitness)
            for i in range(4)
        ]
        assert fitness == sorted(fitness, reverse=True)
        assert fitness[0] == pytest.approx(progress.meta["score"], abs=1e-5)
        assert fitness[0] >= best
        best = fitness[0]
        if before.meta["genomes"]:  # everybody is a parent of before, unchanged or with one mutation more
            old = [genome.seeds.tolist() for genome in before.meta["genomes"]]
            for genome in progress.meta["genomes"]:
                seeds = genome.seeds.tolist()
                assert seeds in old or seeds[:-1] in old
    assert progress.spent.evaluations == 12 + 13 + 13


def test_without_parents_everybody_is_drawn_anew() -> None:
    progress = after(DeepGA(population=12, parents=0, validations=0), 4)
    assert len(progress.meta["genomes"]) == 1
    assert len(progress.meta["best"][0].sigmas) == 0


def test_an_elite_is_the_one_that_fares_best_on_fresh_tasks() -> None:
    noisy = Environments(env=CartPole(max_steps=60))
    policy = Episodic(model=POLICY.model, temperature=1.0)
    meta = DeepGA(population=10, parents=3, sigma=0.3, candidates=4, validations=25)
    experiment = Experiment(tasks=noisy, learner=policy, meta_optimizer=meta, steps=1, task_batch=1)
    progress = experiment.advance(experiment.begin())
    assert progress.spent.evaluations == 10 + 4 * 25
    objective = TaskObjective(experiment.engine, noisy, {}, 1, experiment.root.fold("step", 0)).fresh("elite", 25)
    everybody = [objective.init(first_key(seed, "cpu")) for seed in _seeds(meta, experiment)]
    again = objective.many(tree.stack(everybody)).fitness.mean(1)
    assert progress.meta["score"] in again.tolist()
    assert progress.meta["score"] == pytest.approx(float(objective(progress.theta).fitness.mean()), rel=1e-5)


def _seeds(meta: DeepGA, experiment: Experiment) -> list[int]:
    start = experiment.begin()
    seeds: list[int] = meta._brood(start.meta, experiment.root.fold("step", 0).fold("meta")).seed.tolist()
    return seeds


def test_children_keep_the_names_of_seeds_that_made_them() -> None:
    meta = DeepGA(population=6, parents=2, sigma=0.3, validations=0)
    progress = after(meta, 2)
    brood = meta._brood(progress.meta, Key.of(0))
    assert brood.seed[0] == UNCHANGED
    assert len(brood.seed) == 7
    assert set(brood.parent.tolist()) <= {0, 1}


def test_novelty_is_the_mean_distance_to_the_nearest_others() -> None:
    found = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    archive = torch.tensor([[0.0, 2.0]])
    assert novelty(found, archive, 2)[0].item() == pytest.approx((1 + 2) / 2)
    assert novelty(found, archive[:0], 9)[1].item() == pytest.approx((5 + 18**0.5) / 2)
    twins = torch.zeros(2, 2)
    assert novelty(twins, archive[:0], 1).tolist() == [0.0, 0.0]
    assert novelty(twins[:1], archive[:0], 1).tolist() == [0.0]
    big = Key.of(0).normal(1500, 2)
    torch.testing.assert_close(novelty(big, big[:0], 3), _slowly(big, 3))


def _slowly(found: torch.Tensor, neighbours: int) -> torch.Tensor:
    rows = [(found - own).norm(dim=1).sort().values[1 : neighbours + 1].mean() for own in found]
    return torch.stack(rows)


def test_behaviours_are_archived_with_their_probability_and_recorded() -> None:
    every = after(DeepGA(population=8, parents=2, objective="novelty", archive=1.0, record=True, validations=0), 3)
    assert every.meta["archive"].shape == every.meta["seen"].shape == (8 + 9 + 9, 2)
    none = after(DeepGA(population=8, parents=2, objective="novelty", archive=0.0, validations=0), 3)
    assert none.meta["archive"].shape == (0, 2)
    assert none.meta["seen"] is None


def test_chunks_and_spread_individuals_change_nothing() -> None:
    meta = DeepGA(population=9, parents=3, sigma=0.2, validations=2, candidates=2)
    whole, parts = after(meta, 3), after(meta.but(chunk=4), 3)
    assert [g.seeds.tolist() for g in whole.meta["genomes"]] == [g.seeds.tolist() for g in parts.meta["genomes"]]


def test_a_learner_without_behaviour_is_no_learner_for_novelty() -> None:
    with pytest.raises(UserError, match=r"learner\.behaviour=final"):
        after(DeepGA(population=4, objective="novelty"), 1, learner=POLICY.but(behaviour="none"))


def test_a_learner_without_tensors_is_refused() -> None:
    from metaloop_basics.learners.ridge import Ridge

    class Nothing(Ridge):
        theta_kind = "none"

        def check(self, spec: Spec) -> None:
            """Anything."""

    with pytest.raises(Incompatible, match="nothing to meta-learn"):
        Experiment(tasks=Lines(), learner=Nothing(), meta_optimizer=DeepGA(), steps=1)


def test_it_trains_a_layer_of_linear_self_attention() -> None:
    lsa = pytest.importorskip("metaloop_icl_gd.transformer").LSATransformer(init_scale=0.3)
    lines = LinearRegression(inputs=2, shots=8, queries=1)
    meta = DeepGA(population=64, parents=8, sigma=0.1, candidates=5, validations=32)
    experiment = Experiment(tasks=lines, learner=lsa, meta_optimizer=meta, steps=25, task_batch=32, eval_tasks=500)
    progress = experiment.begin()
    for _ in range(25):
        progress = experiment.advance(progress)
    zero = 2 / 12 * 0.5  # half the variance of a target: what predicting zero leaves
    assert float(experiment.evaluate(progress.theta).loss.mean()) < 0.6 * zero


def test_it_trains_an_in_context_transformer() -> None:
    transformer = pytest.importorskip("metaloop_gpicl.transformer").InContextTransformer.example()
    lines = LinearRegression(inputs=1, shots=4, queries=2)
    meta = DeepGA(population=16, parents=4, sigma=0.1, candidates=3, validations=16)
    experiment = Experiment(tasks=lines, learner=transformer, meta_optimizer=meta, steps=5, task_batch=16)
    progress = experiment.begin()
    before = float(experiment.evaluate(progress.theta, n=200).loss.mean())
    for _ in range(5):
        progress = experiment.advance(progress)
    assert float(experiment.evaluate(progress.theta, n=200).loss.mean()) < 0.8 * before
