"""Seeds in place of weights: exact, small, and safe to read."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import Experiment, Key, UserError
from metaloop.precision import default_dtype
from metaloop_basics.meta_optimizers.population import normal_like
from metaloop_basics.models import Mlp
from metaloop_deep_ga.ga import DeepGA, compression
from metaloop_deep_ga.genome import SEEDS, Genome, noise_of
from metaloop_deep_ga.maze import HardMaze
from metaloop_rl.atari import AtariNet
from metaloop_rl.learners.episodic import Episodic, EpisodicGym
from metaloop_rl.specs import GymControlSpec
from metaloop_rl.tasks import Environments

seeds = st.integers(0, SEEDS - 1)
sigmas = st.floats(1e-6, 10.0)


@given(seeds, st.lists(st.tuples(seeds, sigmas), max_size=60))
@settings(deadline=None, max_examples=50)
def test_a_genome_survives_its_bytes(first: int, mutations: list[tuple[int, float]]) -> None:
    genome = Genome.first(first)
    for seed, sigma in mutations:
        genome = genome.mutated(seed, sigma)
    data = genome.to_bytes()
    back = Genome.from_bytes(data)
    assert back.seeds.tolist() == [first, *(seed for seed, _ in mutations)]
    assert back.sigmas.tolist() == [sigma for _, sigma in mutations]
    assert len(data) == 12 + 12 * len(mutations)


@given(st.binary(max_size=40))
@settings(max_examples=50)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UserError, match="not a genome"):
        Genome.from_bytes(data)
    whole = Genome.first(3).mutated(4, 0.5).to_bytes()
    with pytest.raises(UserError, match="24 bytes"):
        Genome.from_bytes(whole[:-1])
    with pytest.raises(UserError, match="24 bytes"):
        Genome.from_bytes(whole + data + b"0")


@given(st.integers(1, 70), st.integers(1, 5), st.lists(seeds, min_size=1, max_size=9), st.booleans())
@settings(deadline=None, max_examples=30)
def test_noise_is_a_function_of_its_seed_alone(rows: int, columns: int, drawn: list[int], double: bool) -> None:
    theta = {"a": torch.zeros(rows, columns, dtype=torch.float64 if double else torch.float32), "b": torch.zeros(3)}
    together = noise_of(theta, torch.tensor(drawn))
    for i, seed in enumerate(drawn):
        alone = noise_of(theta, torch.tensor(seed))
        assert all(torch.equal(together[name][i], alone[name]) for name in theta)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("changes", [{}, {"objective": "novelty"}, {"parents": 0}, {"chunk": 7}, {"validations": 0}])
def test_evolved_weights_come_back_from_their_seeds_to_the_last_bit(changes: dict[str, object], precision: str) -> None:
    experiment = Experiment(
        tasks=Environments(env=HardMaze(max_steps=10)),
        learner=Episodic(model=Mlp(widths=(16, 16), activation="tanh"), behaviour="final"),
        meta_optimizer=DeepGA(population=20, parents=5, sigma=0.1, validations=1).but(**changes),
        steps=12,
        task_batch=1,
        precision=precision,
    )
    progress = experiment.begin()
    for _ in range(12):
        progress = experiment.advance(progress)
    state, spec = progress.meta, experiment.tasks.spec
    with default_dtype(getattr(torch, precision)):
        for genome, weights in (
            *((genome, {n: v[i] for n, v in state["parents"].items()}) for i, genome in enumerate(state["genomes"])),
            (state["best"][0], progress.theta),
        ):
            back = Genome.from_bytes(genome.to_bytes()).weights(lambda key: experiment.learner.init(spec, key))
            assert all(torch.equal(back[name], weights[name]) for name in weights)
    if experiment.meta_optimizer.parents:
        assert max(len(genome.sigmas) for genome in state["genomes"]) >= 5


def test_four_million_weights_are_ten_thousand_times_larger_than_fifty_generations_of_seeds() -> None:
    learner = EpisodicGym(model=AtariNet(size="large"), initialisation="fan_in")
    spec = GymControlSpec(observation=(4, 84, 84), actions=18, horizon=100)
    genome = Genome.first(1)
    for seed in range(50):
        genome = genome.mutated(seed, 0.002)
    theta = learner.init(spec, Key.of(0))
    assert sum(value.numel() for value in theta.values()) > 4_000_000
    assert compression(theta, genome) > 10_000
    once = Genome(genome.seeds[:3], genome.sigmas[:2])
    weights = once.weights(lambda key: learner.init(spec, key))
    rows = [noise_of(weights, seed) for seed in once.seeds[1:]]
    first = Genome.first(1).weights(lambda key: learner.init(spec, key))
    expected = first["hidden.weight"] + 0.002 * rows[0]["hidden.weight"] + 0.002 * rows[1]["hidden.weight"]
    assert torch.equal(weights["hidden.weight"], expected)


def test_noise_is_standard_normal_and_differs_between_leaves() -> None:
    theta = {"a": torch.zeros(200, 100), "b": torch.zeros(200, 100)}
    noise = noise_of(theta, torch.tensor(5))
    for value in noise.values():
        assert value.mean().item() == pytest.approx(0.0, abs=0.03)
        assert value.std().item() == pytest.approx(1.0, abs=0.03)
    assert abs(float((noise["a"] * noise["b"]).mean())) < 0.03
    assert noise.keys() == normal_like(theta, 1, Key.of(0)).keys()
