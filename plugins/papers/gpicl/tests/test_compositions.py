"""This plugin's parts with others': any learner of classes on its tasks, its learners on any episodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop import Experiment, Incompatible
from metaloop_basics.learners.descent import GradientDescent
from metaloop_basics.learners.maml import Maml
from metaloop_basics.learners.protonet import ProtoNet
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.models import Mlp
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_gpicl.data import Bundled
from metaloop_gpicl.projection import RandomProjectionTasks
from metaloop_gpicl.transformer import InContextTransformer

FLOWERS = RandomProjectionTasks(data=Bundled(name="iris"), ways=3, shots=12, queries=6)
LINES = LinearRegression(inputs=2, shots=8, queries=4)
TINY = InContextTransformer(width=8, heads=2, feedforward=16, layers=1)
STEEP = Gradient(lr=1e-2, clip=1.0)


def losses(tasks: Any, learner: Any, meta: Any, steps: int, batch: int = 32) -> tuple[float, float]:
    """On the same evaluation tasks before and after training."""
    experiment = Experiment(tasks=tasks, learner=learner, meta_optimizer=meta, steps=steps, task_batch=batch)
    progress = experiment.begin()
    before = experiment.evaluate(progress.theta, n=200).loss.mean()
    for _ in range(steps):
        progress = experiment.advance(progress)
    return float(before), float(experiment.evaluate(progress.theta, n=200).loss.mean())


@pytest.mark.parametrize(
    ("meta", "steps"),
    [(STEEP, 30), (EvolutionStrategy(population=32, sigma=0.05, lr=0.05), 25)],
    ids=["gradient", "evolution strategy"],
)
def test_the_transformer_learns_regression_with_and_without_gradients(meta: Any, steps: int) -> None:
    before, after = losses(LINES, TINY, meta, steps)
    assert after < 0.8 * before


@pytest.mark.parametrize(
    "learner",
    [Maml(steps=2, inner_lr=0.1, model=Mlp(widths=(16,))), ProtoNet(ways=3, model=Mlp(widths=(16,))), TINY],
    ids=["maml", "protonet", "transformer"],
)
def test_learners_of_classes_on_projected_flowers(learner: Any) -> None:
    before, after = losses(FLOWERS, learner, STEEP, 25)
    assert after < before


def test_the_transformer_on_images_of_another_toolkit() -> None:
    experiment = Experiment(
        tasks=FewShotDigits(shots=2, queries=2), learner=TINY, meta_optimizer=STEEP, steps=1, task_batch=4
    )
    assert torch.isfinite(experiment.advance(experiment.begin()).outcome.loss).all()


def test_learners_of_real_targets_take_indicators_and_refuse_classes() -> None:
    with pytest.raises(Incompatible, match="these tasks have classes"):
        Experiment(tasks=FLOWERS, learner=GradientDescent(lr=0.1), meta_optimizer=STEEP, steps=1)
    before, after = losses(FLOWERS.but(indicators=True), GradientDescent(steps=2, lr=0.1), STEEP, 10)
    assert after < before


def test_linear_attention_takes_indicators_and_refuses_classes() -> None:
    transformer = pytest.importorskip("metaloop_icl_gd.transformer")
    learner = transformer.LSATransformer()
    with pytest.raises(Incompatible, match="regresses on real targets, but these tasks have classes"):
        Experiment(tasks=FLOWERS, learner=learner, meta_optimizer=STEEP, steps=1)
    before, after = losses(FLOWERS.but(indicators=True), learner, Gradient(lr=3e-3, clip=0.1), 40)
    assert after < before
