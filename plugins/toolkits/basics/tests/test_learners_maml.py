"""MAML and ANIL against torch.autograd by hand, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from metaloop.engine import Engine
from metaloop.errors import Incompatible
from metaloop.functional import filled
from metaloop.key import Key
from metaloop.learner import AnyLearner
from metaloop.outcome import Episode
from metaloop.specs import ObjectiveSpec, SupervisedSpec
from metaloop_basics.learners.anil import HEAD, Anil
from metaloop_basics.learners.maml import RATES, Maml
from metaloop_basics.models import ConvNet, Mlp, Model, Theta
from pydantic import ValidationError
from torch import Tensor, nn

TASKS, SHOTS, QUERIES = 3, 4, 5
NETWORKS: dict[str, tuple[Model, tuple[int, ...]]] = {
    "relu": (Mlp(widths=(6, 5)), (2,)),
    "tanh": (Mlp(widths=(6,), activation="tanh"), (2,)),
    "linear": (Mlp(widths=()), (2,)),
    "conv-layer": (ConvNet(channels=(3, 2)), (1, 4, 4)),
    "conv-batch": (ConvNet(channels=(3,), norm="batch"), (1, 4, 4)),
    "conv-none": (ConvNet(channels=(3,), norm="none"), (1, 4, 4)),
}


@pytest.fixture(autouse=True)
def _double() -> object:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def episodes(inputs: tuple[int, ...], classes: bool) -> tuple[SupervisedSpec, Episode]:
    keys = Key.of(5).split(TASKS)
    x = keys.fold("x").normal(SHOTS + QUERIES, *inputs)
    y = keys.fold("y").randint(0, 3, SHOTS + QUERIES) if classes else keys.fold("y").normal(SHOTS + QUERIES, 2)
    spec = SupervisedSpec(
        inputs=inputs, outputs=3 if classes else 2, shots=SHOTS, queries=QUERIES, target="class" if classes else "real"
    )
    return spec, Episode(x[:, :SHOTS], y[:, :SHOTS], x[:, SHOTS:], y[:, SHOTS:])


def error(outputs: Tensor, y: Tensor) -> Tensor:
    loss = nn.functional.mse_loss if y.is_floating_point() else nn.functional.cross_entropy
    return loss(outputs, y)


def by_hand(
    network: nn.Module,
    theta: Theta,
    tasks: Episode,
    lr: Callable[[str], Tensor | float],
    steps: int,
    *,
    first_order: bool = False,
    adapts: tuple[str, ...] | None = None,
) -> tuple[Theta, list[float]]:
    """The meta-gradient and each task's query loss, task by task."""
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    names = [name for name in leaves if not name.startswith(RATES)]
    losses = []
    for i in range(TASKS):
        own = {name: leaves[name] for name in names}
        for _ in range(steps):
            inner = error(torch.func.functional_call(network, own, (tasks.support_x[i],)), tasks.support_y[i])
            moving = [name for name in names if adapts is None or name in adapts]
            slopes = torch.autograd.grad(inner, [own[name] for name in moving], create_graph=True)
            for name, slope in zip(moving, slopes, strict=True):
                own[name] = own[name] - lr(name) * (slope.detach() if first_order else slope)
        losses.append(error(torch.func.functional_call(network, own, (tasks.query_x[i],)), tasks.query_y[i]))
    total = torch.stack(losses).mean()
    gradient = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradient, strict=True)), [loss.item() for loss in losses]


def close(one: Theta, other: Theta) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_meta_gradient_is_autograds(network: str, classes: bool, first_order: bool) -> None:
    model, inputs = NETWORKS[network]
    spec, tasks = episodes(inputs, classes)
    maml = Maml(model=model, steps=3, inner_lr=0.1, first_order=first_order)
    theta = maml.init(spec, Key.of(1))
    gradient, out = Engine(maml).grad(theta, tasks, Key.of(2).split(TASKS))
    expected, losses = by_hand(maml.module_for(spec), theta, tasks, lambda _: 0.1, 3, first_order=first_order)
    close(gradient, expected)
    torch.testing.assert_close(out.loss, torch.tensor(losses))
    start = [
        float(error(torch.func.functional_call(maml.module_for(spec), theta, (x,)), y))
        for x, y in zip(tasks.query_x, tasks.query_y, strict=True)
    ]
    torch.testing.assert_close(out.metrics["before"], torch.tensor(start))


def test_second_derivatives_matter() -> None:
    spec, tasks = episodes((2,), False)
    maml = Maml(model=Mlp(widths=(6,)), steps=3, inner_lr=0.1)
    theta, keys = maml.init(spec, Key.of(1)), Key.of(2).split(TASKS)
    exact, _ = Engine(maml).grad(theta, tasks, keys)
    first, _ = Engine(maml.but(first_order=True)).grad(theta, tasks, keys)
    assert (exact["hidden1.weight"] - first["hidden1.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("first_order", [False, True])
def test_meta_sgd_learns_a_rate_per_entry(first_order: bool) -> None:
    spec, tasks = episodes((2,), False)
    maml = Maml(model=Mlp(widths=(6,)), steps=2, inner_lr=0.1, learn_inner_lr=True, first_order=first_order)
    theta = maml.init(spec, Key.of(1))
    rates = {name: value for name, value in theta.items() if name.startswith(RATES)}
    assert len(rates) == len(theta) // 2
    assert all((value == 0.1).all() for value in rates.values())
    network = maml.model.network(spec.inputs, spec.outputs)
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    gradient, _ = Engine(maml).grad(theta, tasks, Key.of(2).split(TASKS))
    total = torch.zeros(())
    for i in range(TASKS):
        own = {name: value for name, value in leaves.items() if name not in rates}
        for _ in range(2):
            inner = error(torch.func.functional_call(network, own, (tasks.support_x[i],)), tasks.support_y[i])
            slopes = torch.autograd.grad(inner, list(own.values()), create_graph=not first_order, retain_graph=True)
            own = {
                name: value - leaves[RATES + name] * slope
                for (name, value), slope in zip(own.items(), slopes, strict=True)
            }
        total = total + error(torch.func.functional_call(network, own, (tasks.query_x[i],)), tasks.query_y[i]) / TASKS
    expected = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    close(gradient, expected)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("network", ["relu", "conv-batch"])
def test_anil_is_maml_of_the_head(network: str, first_order: bool) -> None:
    model, inputs = NETWORKS[network]
    spec, tasks = episodes(inputs, True)
    anil = Anil(model=model, steps=3, inner_lr=0.3, first_order=first_order)
    theta = anil.init(spec, Key.of(1))
    gradient, out = Engine(anil).grad(theta, tasks, Key.of(2).split(TASKS))
    expected, losses = by_hand(
        anil.module_for(spec), theta, tasks, lambda _: 0.3, 3, first_order=first_order, adapts=HEAD
    )
    close(gradient, expected)
    torch.testing.assert_close(out.loss, torch.tensor(losses))


def test_anil_leaves_the_body_alone() -> None:
    spec, tasks = episodes((2,), False)
    anil = Anil(model=Mlp(widths=(6,)), steps=2)
    theta = anil.init(spec, Key.of(1))
    _, state = anil.live(theta, tasks, Key.of(2).split(TASKS))
    adapted = anil.adapted(theta, state)
    for name, value in theta.items():
        moved = (adapted[name] - value).abs().flatten(1).amax(1)
        assert bool((moved > 0).all()) if name in HEAD else bool((moved == 0).all()), name


@pytest.mark.parametrize("learner", [Maml(inner_lr=0), Anil(inner_lr=0), Maml(steps=0)], ids=str)
def test_without_steps_nothing_moves(learner: Maml | Anil) -> None:
    spec, tasks = episodes((2,), True)
    theta = learner.init(spec, Key.of(1))
    out = Engine(learner).live(theta, tasks, Key.of(2).split(TASKS))
    torch.testing.assert_close(out.loss, out.metrics["before"])


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_module_holds_theta(network: str, learn: bool) -> None:
    model, inputs = NETWORKS[network]
    spec, tasks = episodes(inputs, False)
    maml = Maml(model=model, steps=0, learn_inner_lr=learn)
    theta = maml.init(spec, Key.of(1))
    module = filled(maml.module_for(spec), theta)
    _, state = maml.live(theta, tasks, Key.of(2).split(TASKS))
    outputs = maml.predict(theta, state, tasks.query_x, Key.of(3).split(TASKS))
    torch.testing.assert_close(module(tasks.query_x[0]), outputs[0])


def test_accuracy_counts_right_answers() -> None:
    spec, tasks = episodes((2,), True)
    maml = Maml(model=Mlp(widths=(6,)), steps=1)
    theta, keys = maml.init(spec, Key.of(1)), Key.of(2).split(TASKS)
    out, state = maml.live(theta, tasks, keys)
    guesses = maml.predict(theta, state, tasks.query_x, keys).argmax(-1)
    right = [
        sum(int(g == y) for g, y in zip(guesses[i], tasks.query_y[i], strict=True)) / QUERIES for i in range(TASKS)
    ]
    assert out.metrics["accuracy"].tolist() == pytest.approx(right)


@pytest.mark.parametrize("learner", [Maml, Anil])
def test_negative_rates_are_refused(learner: type[Maml] | type[Anil]) -> None:
    with pytest.raises(ValidationError, match="inner_lr"):
        learner(inner_lr=-0.1)


@pytest.mark.parametrize(
    ("learner", "spec", "reason"),
    [
        (Maml(), ObjectiveSpec(dimension=2), "SupervisedSpec"),
        (Anil(), SupervisedSpec(inputs=(2,), outputs=1, shots=0, queries=1), "no"),
        (Maml(model=ConvNet()), SupervisedSpec(inputs=(2,), outputs=1, shots=1, queries=1), "use Mlp"),
        (Anil(model=ConvNet()), SupervisedSpec(inputs=(1, 7, 9), outputs=1, shots=1, queries=1), "at most 2 entries"),
    ],
    ids=["spec", "shots", "vectors", "small images"],
)
def test_what_does_not_fit_is_refused(learner: AnyLearner, spec: SupervisedSpec, reason: str) -> None:
    with pytest.raises(Incompatible, match=reason):
        learner.check(spec)
