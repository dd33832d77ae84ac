"""Ridge against scikit-learn, gradient descent against its closed form, prototypes by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from metaloop.engine import Engine
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import AnyLearner
from metaloop.outcome import Clock, Episode
from metaloop.specs import ObjectiveSpec, Spec, SupervisedSpec
from metaloop_basics.learners.descent import GradientDescent
from metaloop_basics.learners.protonet import ProtoNet
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.models import ConvNet, Mlp
from sklearn import linear_model
from torch import Tensor

TASKS = 3
REAL = SupervisedSpec(inputs=(4,), outputs=2, shots=6, queries=5)
CLASSES = SupervisedSpec(inputs=(4,), outputs=3, shots=6, queries=5, target="class")


@pytest.fixture(autouse=True)
def _double() -> object:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def drawn(shots: int = 6, inputs: int = 4) -> Episode:
    keys = Key.of(5).split(TASKS)
    x, y = keys.fold("x").normal(shots + 5, inputs), keys.fold("y").normal(shots + 5, 2)
    return Episode(x[:, :shots], y[:, :shots] + 1, x[:, shots:], y[:, shots:])


def outputs(learner: Any, theta: dict[str, Tensor], tasks: Episode) -> Tensor:
    _, state = learner.live(theta, tasks, Key.of(2).split(TASKS))
    found: Tensor = learner.predict(theta, state, tasks.query_x, Key.of(3).split(TASKS))
    return found


@pytest.mark.parametrize("shots", [3, 6], ids=["fewer rows than inputs", "more rows than inputs"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_ridge_is_scikit_learns(shots: int, intercept: bool, penalty: float) -> None:
    tasks = drawn(shots)
    ridge = Ridge(penalty=penalty, intercept=intercept)
    found = outputs(ridge, {}, tasks)
    for i in range(TASKS):
        peer = linear_model.LinearRegression(fit_intercept=intercept)
        if penalty:
            peer = linear_model.Ridge(alpha=penalty, fit_intercept=intercept, tol=1e-12)
        peer.fit(tasks.support_x[i].numpy(), tasks.support_y[i].numpy())
        np.testing.assert_allclose(found[i], peer.predict(tasks.query_x[i].numpy()), rtol=1e-9, atol=1e-9)
    loss = Engine(ridge).live({}, tasks, Key.of(2).split(TASKS)).loss
    torch.testing.assert_close(loss, (found - tasks.query_y).square().mean((1, 2)))


def test_ridge_tells_classes_apart() -> None:
    keys = Key.of(1).split(TASKS)
    y = torch.arange(3).repeat(4).expand(TASKS, 12)
    x = torch.nn.functional.one_hot(y, 4) + 0.1 * keys.normal(12, 4)
    out = Engine(Ridge(ways=3, penalty=0.1)).live({}, Episode(x, y, x, y), keys)
    assert out.metrics["accuracy"].tolist() == [1.0] * TASKS
    assert (out.loss < 0.05).all()


@pytest.mark.parametrize("steps", [1, 7])
def test_descent_is_its_closed_form(steps: int) -> None:
    """From zero: `W_k = (I - (I - lr/N X X^T)^k) W*` with `X X^T W* = X Y`."""
    tasks, lr = drawn(), 0.2
    gd = GradientDescent(steps=steps, lr=lr)
    found = outputs(gd, gd.init(REAL, Key.of(0)), tasks)
    gram = tasks.support_x.mT @ tasks.support_x / 6
    best = torch.linalg.solve(gram, tasks.support_x.mT @ tasks.support_y / 6)
    kept = torch.linalg.matrix_power(torch.eye(4) - lr * gram, steps)
    torch.testing.assert_close(found, tasks.query_x @ (best - kept @ best))


def test_one_step_of_descent_by_hand() -> None:
    """`-(eta/N) sum_i (W x_i - y_i) x_i`, for x = 1, 2 and y = 3, 4: eta/2 * 11."""
    column = torch.tensor([[[1.0], [2.0]]])
    tasks = Episode(column, torch.tensor([[[3.0], [4.0]]]), column[:, :1], column[:, :1])
    gd = GradientDescent(lr=0.1)
    _, state = gd.live({"lr": torch.tensor(0.1)}, tasks, Key.of(0).split(1))
    assert float(state) == pytest.approx(0.55)


def test_a_rate_for_every_step() -> None:
    tasks = drawn()
    theta = {"lr": torch.tensor([0.1, 0.3])}
    gd = GradientDescent(steps=2, per_step=True)
    state = torch.zeros(TASKS, 2, 4)
    for k, rate in enumerate((0.1, 0.3)):
        clock = Clock(torch.full((TASKS,), k), torch.full((TASKS,), 2))
        state = gd.step({"lr": torch.tensor([rate, rate])}, state, tasks, clock, Key.of(0).split(TASKS))
    _, together = gd.live(theta, tasks, Key.of(0).split(TASKS))
    torch.testing.assert_close(together, state)


def test_a_learned_start_is_where_descent_begins() -> None:
    tasks = drawn()
    gd = GradientDescent(steps=0, start="learned")
    theta = gd.init(REAL, Key.of(0))
    assert theta["weight"].shape == (2, 4)
    theta["weight"] = torch.arange(8.0).view(2, 4)
    torch.testing.assert_close(outputs(gd, theta, tasks), tasks.query_x @ theta["weight"].T)


def test_prototypes_by_hand() -> None:
    """Means (1, 0) and (0, 3); the query (1, 1) is 1 and 5 away, squared."""
    support = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 4.0]]])
    tasks = Episode(support, torch.tensor([[0, 1, 0, 1]]), torch.tensor([[[1.0, 1.0]]]), torch.tensor([[0]]))
    protonet = ProtoNet(ways=2, model=Mlp(widths=()))
    out, state = protonet.live({}, tasks, Key.of(0).split(1))
    assert state.tolist() == [[[1.0, 0.0], [0.0, 3.0]]]
    logits = protonet.predict({}, state, tasks.query_x, Key.of(0).split(1))[0, 0]
    assert float(logits[0] - logits[1]) == pytest.approx(4.0)
    assert float(out.loss) == pytest.approx(np.log1p(np.exp(-4)))
    assert float(out.metrics["accuracy"]) == 1.0


def test_protonet_survives_a_class_without_examples() -> None:
    tasks = drawn()._replace(support_y=torch.zeros(TASKS, 6, dtype=torch.int64), query_y=torch.zeros(TASKS, 5).long())
    protonet = ProtoNet(ways=3, model=Mlp(widths=(4,)))
    out = Engine(protonet).live(protonet.init(CLASSES, Key.of(0)), tasks, Key.of(2).split(TASKS))
    assert torch.isfinite(out.loss).all()


def test_protonet_module_is_the_body() -> None:
    spec = SupervisedSpec(inputs=(1, 8, 8), outputs=5, shots=5, queries=5, target="class")
    protonet = ProtoNet(ways=5, model=ConvNet(channels=(4, 6)))
    assert set(protonet.init(spec, Key.of(0))) == {name for name, _ in protonet.module_for(spec).named_parameters()}
    assert protonet.module_for(spec)(torch.zeros(2, 1, 8, 8)).shape == (2, 6 * 2 * 2)


@pytest.mark.parametrize(
    ("learner", "spec", "reason"),
    [
        (Ridge(), ObjectiveSpec(dimension=2), "SupervisedSpec"),
        (Ridge(), CLASSES, "set learner.ways to 3"),
        (ProtoNet(), REAL, "real targets"),
        (ProtoNet(ways=5), CLASSES, "set learner.ways to 3"),
        (ProtoNet(ways=3, model=ConvNet()), CLASSES, "use Mlp"),
        (GradientDescent(), CLASSES, "real targets"),
        (GradientDescent(), ObjectiveSpec(dimension=2), "SupervisedSpec"),
    ],
)
def test_what_does_not_fit_is_refused(learner: AnyLearner, spec: Spec, reason: str) -> None:
    with pytest.raises(Incompatible, match=reason):
        learner.check(spec)
