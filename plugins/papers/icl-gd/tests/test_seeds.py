"""Training several seeds at once is training each alone."""

from __future__ import annotations

import pytest
import torch
from metaloop import Experiment, UserError
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.jobs import adam
from metaloop_icl_gd.seeds import train
from metaloop_icl_gd.transformer import LSATransformer

EXPERIMENT = Experiment(
    tasks=LinearRegression(inputs=3, shots=4, queries=1),
    learner=LSATransformer(),
    meta_optimizer=adam(1e-2, clip=1e-3),
    steps=5,
    task_batch=16,
)


def test_every_seed_is_as_if_trained_alone() -> None:
    told: list[float] = []
    found = train(EXPERIMENT, (3, 8), on_progress=told.append)
    for i, seed in enumerate((3, 8)):
        alone = EXPERIMENT.but(seed=seed)
        progress = alone.begin()
        for _ in range(5):
            progress = alone.advance(progress)
        torch.testing.assert_close(found.of(i), progress.theta, rtol=1e-5, atol=1e-6)
    assert told == [0.0]


def test_measurements_are_taken_before_on_the_way_and_after() -> None:
    found = train(EXPERIMENT, (0, 1), every=2, measure=lambda theta, seed: {"seed": float(seed)})
    assert found.curves["step"].tolist() == [0, 2, 4, 5]
    assert found.curves["seed"].tolist() == [[0.0, 1.0]] * 4


def test_other_meta_optimizers_are_refused() -> None:
    with pytest.raises(UserError, match="basics/gradient"):
        train(EXPERIMENT.but(meta_optimizer=EvolutionStrategy()), (0, 1))
