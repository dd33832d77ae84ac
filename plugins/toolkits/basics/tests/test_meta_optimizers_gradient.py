from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from metaloop import tree
from metaloop.component import Options
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.skeleton import decode, encode
from metaloop_basics.meta_optimizers.gradient import Gradient, TruncatedGradient
from metaloop_basics.meta_optimizers.reptile import Reptile
from pydantic import ValidationError

from .toys import Bowls, Distance, Effort, Guess, Points, Theta, Walk, objective

SCHEDULES = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ConstantLR": {"total_iters": 3},
    "LinearLR": {"total_iters": 3},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 5},
    "CosineAnnealingLR": {"T_max": 6},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 100.0},
}
OPTIMIZERS = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
]


def run(meta: Any, theta: Theta, steps: int, state: Any = None, first: int = 0, learner: Any = None) -> Any:
    """Outer steps on other tasks each, from step `first`."""
    state = meta.begin(theta, Key.of(0)) if state is None else state
    for i in range(first, first + steps):
        theta, state, _ = meta.step(theta, state, objective(learner or Distance(), seed=i), Key.of(i))
    return theta, state


def start() -> Theta:
    return Distance().init(Bowls().spec, Key.of(7))


def same(a: Any, b: Any) -> bool:
    """Equal structure, equal plain values, bit-equal tensors."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(type(a) is type(b) and a == b)


def assert_plain(state: Any) -> None:
    if type(state) is dict:
        for key, value in state.items():
            assert type(key) is str
            assert_plain(value)
    elif type(state) in (list, tuple):
        for value in state:
            assert_plain(value)
    else:
        assert state is None or type(state) in (bool, int, float, str, torch.Tensor), type(state)


@pytest.mark.parametrize(
    ("name", "options", "clip", "cosine"),
    [
        ("SGD", {"momentum": 0.9, "nesterov": True}, None, False),
        ("Adam", {"betas": (0.8, 0.99)}, None, False),
        ("AdamW", {"weight_decay": 0.1}, 0.5, True),
    ],
)
def test_gradient_is_a_torch_training_loop(name: str, options: Any, clip: float | None, cosine: bool) -> None:
    schedule = {"schedule": "CosineAnnealingLR", "schedule_options": {"T_max": 20}} if cosine else {}
    meta = Gradient(optimizer=name, lr=0.05, options=options, clip=clip, **schedule)
    theta, _ = run(meta, start(), 20)

    parameters = {key: value.clone().requires_grad_() for key, value in start().items()}
    optimizer = getattr(torch.optim, name)(parameters.values(), lr=0.05, **options)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20) if cosine else None
    for i in range(20):
        gradient, _ = objective(Distance(), seed=i).grad({k: v.detach() for k, v in parameters.items()})
        for key, value in parameters.items():
            value.grad = gradient[key].clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()
        if decay is not None:
            decay.step()
    assert same(theta, {key: value.detach() for key, value in parameters.items()})
    assert not same(theta, start())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", [None, "CosineAnnealingLR"])
def test_every_optimizer_is_pure_plain_and_resumes(name: str, schedule: str | None) -> None:
    more = {} if schedule is None else {"schedule": schedule, "schedule_options": SCHEDULES[schedule]}
    check_pure_plain_and_resumed(Gradient(optimizer=name, lr=0.05, **more))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_pure_plain_and_resumes(name: str) -> None:
    meta = Gradient(optimizer="Adam", lr=0.05, schedule=name, schedule_options=SCHEDULES[name])
    check_pure_plain_and_resumed(meta)
    _, state = run(meta, start(), 6)
    assert state["group"]["lr"] != meta.begin(start(), Key.of(0))["group"]["lr"]  # it does something


def check_pure_plain_and_resumed(meta: Gradient) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta, state = run(meta, start(), 3)
        before = tree.clone((theta, state))
        after = run(meta, theta, 4, state, first=3)
    assert same((theta, state), before)  # nothing that was handed in has changed
    assert_plain(state)
    skeleton, tensors = encode((theta, state))
    loaded_theta, loaded_state = decode(skeleton, tensors)
    assert same(run(meta, loaded_theta, 4, loaded_state, first=3), after)
    assert same(run(meta, start(), 7), after)


def test_muon_takes_matrices_only() -> None:
    meta = Gradient(optimizer="Muon")
    assert_plain(meta.begin({"w": torch.ones(2, 3)}, Key.of(0)))
    with pytest.raises(UserError, match="Muon can't be used"):
        meta.begin({"w": torch.ones(2, 3), "b": torch.ones(3)}, Key.of(0))


def test_plateau_watches_the_loss() -> None:
    meta = Gradient(optimizer="SGD", lr=0.1, schedule="ReduceLROnPlateau", schedule_options={"patience": 1})
    falling = flat = meta.begin(start(), Key.of(0))
    zero = tree.map_tensors(torch.zeros_like, start())
    for i in range(4):
        _, falling = meta.descend(start(), falling, zero, torch.tensor(10.0 - i))
        _, flat = meta.descend(start(), flat, zero, torch.tensor(1.0))
    assert falling["group"]["lr"] == 0.1
    assert flat["group"]["lr"] == pytest.approx(0.01)


def test_a_schedule_at_its_end_says_so() -> None:
    meta = Gradient(schedule="OneCycleLR", schedule_options={"max_lr": 0.1, "total_steps": 3})
    with pytest.raises(UserError, match="schedule OneCycleLR can't go on"):
        run(meta, start(), 4)


def test_clip_bounds_the_step() -> None:
    theta, _ = run(Gradient(optimizer="SGD", lr=1.0, clip=0.01), start(), 1)
    moved = torch.cat([(theta[k] - v).reshape(-1) for k, v in start().items()])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adam"}, "Did you mean 'Adam'"),
        ({"optimizer": "Optimizer"}, "torch.optim has no class 'Optimizer'"),
        ({"optimizer": "lr_scheduler"}, "has no class 'lr_scheduler'"),
        ({"optimizer": "LBFGS"}, "several times a step"),
        ({"options": {"beta": 0.5}}, "no argument 'beta'. Did you mean 'betas'"),
        ({"options": {"betas": (2.0, 0.9)}}, "Invalid beta parameter"),
        ({"options": {"lr": 0.1}}, "lr is a field of its own"),
        ({"options": {"eps": torch.ones(())}}, "options.eps is a Tensor"),
        ({"schedule": "CosineAnealing"}, "Did you mean 'CosineAnnealingLR'"),
        ({"schedule": "LambdaLR"}, "takes a function"),
        ({"schedule": "CosineAnnealingLR"}, "T_max"),
        ({"schedule": "StepLR", "schedule_options": {"step": 3}}, "StepLR has no argument 'step'"),
        ({"schedule_options": {"T_max": 3}}, "schedule is not"),
    ],
)
def test_wrong_names_and_arguments_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Gradient(**fields)


@pytest.mark.parametrize("fields", [{"lr": -0.1}, {"lr": float("nan")}, {"clip": 0.0}, {"window": 0}])
def test_values_out_of_bounds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        TruncatedGradient(**fields)


def test_fields_survive_the_run_file() -> None:
    meta = Gradient(
        optimizer="AdamW", options=Options(betas=(0.8, 0.9)), schedule="StepLR", schedule_options={"step_size": 2}
    )
    assert Gradient.model_validate_json(meta.model_dump_json()) == meta


@pytest.mark.parametrize("meta", [Gradient(), TruncatedGradient()])
def test_learners_without_a_gradient_are_refused(meta: Any) -> None:
    with pytest.raises(Incompatible, match="not differentiable"):
        meta.check(Guess(steps=3))
    meta.check(Walk())


def test_windows_need_inner_steps() -> None:
    with pytest.raises(Incompatible, match="steps = 0"):
        TruncatedGradient().check(Distance())


def test_a_window_as_long_as_life_is_the_whole_gradient() -> None:
    walk, theta = Walk(), Walk().init(Bowls().spec, Key.of(3))
    settings: dict[str, Any] = {"optimizer": "SGD", "lr": 0.3, "options": {"momentum": 0.9}}
    whole, _ = run(Gradient(**settings), theta, 1, learner=walk)
    window, state = run(TruncatedGradient(**settings, window=walk.steps, measure="end"), theta, 1, learner=walk)
    torch.testing.assert_close(window, whole, rtol=0, atol=1e-12)
    assert not torch.equal(window["x"], theta["x"])
    assert state["carry"].clock.step.tolist() == [4] * 8


def test_truncated_lives_go_on_and_resume() -> None:
    meta = TruncatedGradient(window=3, lr=0.05)
    theta, state = run(meta, Walk().init(Bowls().spec, Key.of(3)), 3, learner=Walk())
    assert state["carry"].clock.step.tolist() == [3] * 8  # 3, 4 (the end), 3 of the next life
    kept = tree.clone((theta, state))
    after = run(meta, theta, 2, state, first=3, learner=Walk())
    assert same(tree.leaves((theta, state)), tree.leaves(kept))
    loaded_theta, loaded = decode(*encode((theta, state)))
    again = run(meta, loaded_theta, 2, loaded, first=3, learner=Walk())
    assert same(tree.leaves(again), tree.leaves(after))
    assert all(not leaf.requires_grad for leaf in tree.leaves(after) if isinstance(leaf, torch.Tensor))


def test_short_windows_see_the_cost_alone() -> None:
    theta, _ = run(
        TruncatedGradient(window=1, optimizer="SGD", lr=0.5),
        Effort().init(Bowls().spec, Key.of(0)),
        20,
        learner=Effort(),
    )
    assert abs(theta["push"].item()) < 1e-3  # the best is 1/3


def test_reptile_moves_to_the_mean_of_what_was_adapted() -> None:
    walk, theta = Walk(), Walk().init(Bowls().spec, Key.of(3))
    tasks = objective(walk)
    centers = tasks.draw.tasks.center
    adapted = centers + (1 - walk.rate) ** walk.steps * (theta["x"] - centers)
    for lr in (1.0, 0.25):
        meta = Reptile(lr=lr)
        moved, _, out = meta.step(theta, meta.begin(theta, Key.of(0)), tasks, Key.of(0))
        torch.testing.assert_close(moved["x"], theta["x"] + lr * (adapted.mean(0) - theta["x"]))
        assert out.loss.shape == (8,)


def test_reptile_needs_to_know_what_adapted() -> None:
    Reptile().check(Walk())
    with pytest.raises(Incompatible, match="no `adapted` method"):
        Reptile().check(Distance())


def test_reptile_improves_adaptation_with_adam_outside() -> None:
    theta = {"x": torch.full((3,), 5.0, dtype=torch.float64)}
    better, _ = run(Reptile(optimizer="Adam", lr=0.2), theta, 60, learner=Walk())
    fresh = objective(Walk(), n=64, seed=99)
    assert fresh(better).loss.mean() < 0.3 * fresh(theta).loss.mean()


def test_object_tasks_are_fine_where_no_gradient_is_needed() -> None:
    with pytest.raises(Incompatible):
        Reptile().check(Guess())
    assert objective(Guess(), family=Points())({"x": torch.tensor(0.0)}).loss.shape == (8,)
