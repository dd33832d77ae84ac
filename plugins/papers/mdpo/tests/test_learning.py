"""Both methods learn, in both kinds of environments; a stopped run ends as one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Experiment, Incompatible, Key, UserError, load
from metaloop.outcome import Outcome
from metaloop.testing.compare import difference
from metaloop_basics.models import Mlp
from metaloop_mdpo.off_policy import OffPolicy, OffPolicyGym
from metaloop_mdpo.on_policy import Batch, OnPolicy, OnPolicyGym
from metaloop_rl.adam import Adam
from metaloop_rl.policies import SquashedActor
from metaloop_rl.tasks import Environments, GymTasks

from .point import POINTS

FAST = {"batch": 512, "lr": 0.01, "value_lr": 3e-3, "t": 1.0, "value_epochs": 2, "window": 10}
QUICK = {"sgd_steps": 40, "warmup": 100, "capacity": 1000, "rows": 64, "lr": 3e-3, "entropy": 0.05, "klcoeff": 0.2}
SMALL = {"actor": SquashedActor(net=Mlp(widths=(32,))), "critic": Mlp(widths=(32,))}


def course(tasks: Any, learner: Any, n: int) -> list[Outcome]:
    experiment = Experiment(tasks=tasks, learner=learner, task_batch=n, device="cpu")
    found, progress = [], experiment.begin()
    while not experiment.ended(progress):
        progress = experiment.advance(progress)
        assert progress.outcome is not None
        found.append(progress.outcome)
    return found


@pytest.mark.parametrize(
    ("tasks", "learner", "n"),
    [
        (Environments(), OnPolicy(steps=8, copies=16, **FAST), 3),
        (GymTasks(), OnPolicyGym(steps=8, copies=8, **FAST), 1),
    ],
    ids=["tensor", "gym"],
)
def test_on_policy_balances_the_pole_longer(tasks: Any, learner: Any, n: int) -> None:
    outcomes = course(tasks, learner, n)
    assert (outcomes[0].fitness < 35).all()
    assert outcomes[-1].fitness.mean() > 2 * outcomes[0].fitness.mean()
    assert all((out.metrics["kl"] > 0).all() and (out.metrics["kl"] < 0.3).all() for out in outcomes)


@pytest.mark.parametrize("q", [1.0, 1.5])
def test_off_policy_brings_the_point_to_the_origin(q: float) -> None:
    outcomes = course(POINTS, OffPolicy(steps=9, q=q, **QUICK, **SMALL), 2)
    assert (outcomes[-1].fitness > 0.5 * outcomes[0].fitness).all()  # returns are below zero


def test_iterations_without_a_learning_rate_change_nothing() -> None:
    out = course(Environments(), OnPolicy(steps=2, **(FAST | {"lr": 0.0, "value_lr": 0.0})), 2)[-1]
    assert out.metrics["kl"].tolist() == [0, 0]


def test_the_divergence_holds_the_policy_back() -> None:
    """More steps on one batch move the policy; a smaller t moves it less."""
    learner, key = OnPolicy(lr=0.01), Key.of(0)
    theta = learner.actor.init(Environments().spec, key)
    seen, advantage = key.fold("seen").normal(300, 4), key.fold("advantage").normal(300)
    action = learner.actor(theta, seen).sample(key.split(300))
    batch = Batch(seen, action, advantage, advantage, advantage)

    def moved(m: int, t: float) -> float:
        own = learner.but(sgd_steps=m)
        return float(own._improve(theta, Adam.of(theta), batch, torch.tensor(t), own.lr)[2]["kl"])

    assert moved(1, 1.0) < moved(20, 1.0)
    assert moved(20, 0.05) < moved(20, 1.0)
    assert moved(1, 0.05) == moved(1, 1.0)  # the first step does not see the divergence


@pytest.mark.parametrize(
    ("id", "learner"),
    [
        ("InvertedDoublePendulum-v5", OnPolicyGym(steps=4, batch=64, copies=2, value_batch=32)),
        ("Pendulum-v1", OffPolicyGym(steps=4, sgd_steps=20, warmup=30, capacity=60, rows=8)),
    ],
)
def test_a_stopped_run_in_gymnasium_ends_with_the_same_bits(id: str, learner: Any, tmp_path: Path) -> None:
    experiment = Experiment(tasks=GymTasks(id=id), learner=learner, task_batch=2, checkpoint_every=1, device="cpu")
    whole = experiment.run(root=tmp_path / "whole", quiet=True)
    half = experiment.run(until=2, root=tmp_path / "parts", quiet=True)
    rest = load(half.path).experiment.run(run=half.run, quiet=True)
    assert rest.progress.step == 4
    for one, other in zip(whole.progress.carry.state, rest.progress.carry.state, strict=True):
        tensors = [state._replace(environment=state.environment.state_dict()) for state in (one, other)]
        assert difference(*tensors) is None
    timeless = [[{k: v for k, v in row.items() if k != "time"} for row in r.history] for r in (whole, rest)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OnPolicy(batch=100, copies=8), "batch: 100 steps can't be shared equally by copies=8"),
        (lambda: OffPolicy(sgd_steps=10, copies=4), "sgd_steps: 10"),
        (lambda: OffPolicy(klcoeff=0.1), "klcoeff must be at least"),
        (lambda: OffPolicy(capacity=10), "do not hold a warm-up"),
    ],
)
def test_settings_that_can_not_work_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make()


def test_tasks_that_can_not_work_are_refused() -> None:
    with pytest.raises(Incompatible, match="needs continuous actions"):
        Experiment(tasks=Environments(), learner=OffPolicy())
    with pytest.raises(Incompatible, match="GymControlSpec"):
        Experiment(tasks=Environments(), learner=OnPolicyGym())
    resized = GymTasks(id="CartPole-v1", wrappers=(("ReshapeObservation", {"shape": (2, 2)}),))
    with pytest.raises(Incompatible, match="flatten"):
        Experiment(tasks=resized, learner=OnPolicyGym())


def test_the_minimal_form_leaves_the_extras_out() -> None:
    minimal = OnPolicy.minimal(steps=3)
    assert (minimal.steps, minimal.lam, minimal.value_clip, minimal.normalise_rewards) == (3, 1.0, None, False)
    assert type(minimal.critic) is Mlp
    assert course(Environments(), minimal.but(batch=64, steps=1), 1)[0].loss.isfinite().all()
