"""The curriculum around other families and under other learners and meta-optimizers."""

from __future__ import annotations

import pytest
import torch
from metaloop import Experiment
from metaloop_basics.learners.maml import Maml
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.models import Mlp
from metaloop_basics.tasks.regression import Sinusoid
from metaloop_groove.a2c import A2C
from metaloop_groove.buffer import Buffer, LevelBuffer
from metaloop_groove.scores import AlgorithmicRegret, Reported
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.env import Range
from metaloop_rl.learners.episodic import Episodic
from metaloop_rl.learners.lpg_agent import Heads
from metaloop_rl.tasks import Environments

WAVES = Sinusoid(shots=8, queries=8)


def test_a_few_shot_family_replays_the_waves_on_which_maml_is_furthest_behind_ridge_regression() -> None:
    ridge = Ridge(intercept=True)
    family = LevelBuffer(tasks=WAVES, score=AlgorithmicRegret(antagonist=ridge), slots=64)
    experiment = Experiment(
        tasks=family,
        learner=Maml(steps=1, inner_lr=0.01, model=Mlp(widths=(16,))),
        meta_optimizer=Gradient(lr=1e-3),
        steps=8,
        task_batch=16,
    )
    progress = experiment.begin()
    for _ in range(7):
        progress = experiment.advance(progress)
    before, progress = progress, experiment.advance(progress)
    buffer, outcome = progress.family, progress.outcome
    assert isinstance(buffer, Buffer)
    assert outcome is not None
    draw = family.sample(before.family, 16, experiment.root.fold("step", 7).fold("tasks"))
    assert draw.tag is not None
    theirs, _ = ridge.live({}, draw.tasks, experiment.root.split(16))  # it draws nothing: computed again it is the same
    slot = (draw.tag[:, None] == buffer.id).int().argmax(1)
    assert torch.allclose(buffer.score[slot], theirs.fitness - outcome.fitness)
    again = torch.isin(draw.tag, before.family.id)
    assert 0 < int(again.sum()) < 16
    ready = before.family.score[before.family.ready]
    was = before.family.score[(draw.tag[again][:, None] == before.family.id).int().argmax(1)]
    assert torch.equal(was, ready.sort(descending=True).values[: len(was)])


def test_levels_may_be_ranked_by_any_learners_loss() -> None:
    experiment = Experiment(
        tasks=LevelBuffer(tasks=WAVES, score=Reported(), slots=32, replay=1.0),
        learner=Maml(steps=1, inner_lr=0.01, model=Mlp(widths=(16,))),
        meta_optimizer=Gradient(lr=1e-3),
        steps=1,
        task_batch=8,
    )
    progress = experiment.begin()
    for _ in range(4):
        progress = experiment.advance(progress)
    buffer = progress.family
    # Everything is replayed once there are enough levels: the eight first ones, again and again.
    assert int((buffer.id >= 0).sum()) == 8
    assert float(buffer.score[buffer.id >= 0].mean()) > 0


def test_a_genetic_algorithm_meets_the_poles_on_which_a2c_beats_its_champion() -> None:
    """`deep-ga` under the curriculum: policies that do not adapt, on poles of different gravity."""
    ga = pytest.importorskip("metaloop_deep_ga.ga")
    poles = Environments(
        env=CartPole(max_steps=60),
        vary=(Range(name="gravity", low=2.0, high=40.0), Range(name="half_length", low=0.1, high=1.0)),
    )
    a2c = A2C(steps=10, workers=8, heads=Heads(adam=1e-2), episodes=4)
    experiment = Experiment(
        tasks=LevelBuffer(tasks=poles, score=AlgorithmicRegret(antagonist=a2c), slots=48),
        learner=Episodic(model=Mlp(widths=(8,), activation="tanh")),
        meta_optimizer=ga.DeepGA(population=12, parents=4, sigma=0.3, validations=0),
        steps=4,
        task_batch=8,
    )
    progress = experiment.begin()
    for _ in range(4):
        progress = experiment.advance(progress)
    buffer, outcome = progress.family, progress.outcome
    assert outcome is not None
    known = ~buffer.new
    assert 16 <= int(known.sum()) < 32  # some were replayed
    # Regret is A2C's return less the champion's: neither can be outside of what a pole pays.
    assert bool(((buffer.reference >= 1) & (buffer.reference <= 60))[known].all())
    lengths = (buffer.reference - buffer.score)[known]  # of one episode of the champion's each
    assert torch.allclose(lengths, lengths.round(), atol=1e-4)
    assert bool(((lengths > 0.5) & (lengths < 60.5)).all())
    assert float(outcome.fitness.mean()) > 9
