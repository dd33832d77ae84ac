"""The transformer's layers, tokens and states."""

from __future__ import annotations

import pytest
import torch
from metaloop import Episode, Experiment, Incompatible, Key, SupervisedSpec
from metaloop_basics.tasks.regression import LinearRegression, Sinusoid
from metaloop_icl_gd.alignment import response
from metaloop_icl_gd.analysis import Model, iterated, zero
from metaloop_icl_gd.construction import construction
from metaloop_icl_gd.embedding import Embedding, sinusoids, variance_scaling
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.jobs import adam
from metaloop_icl_gd.transformer import LSATransformer
from torch import Tensor

LINES = LinearRegression(inputs=3, shots=5, queries=4)
TASKS: Episode = LINES.sample({}, 6, Key.of(0)).tasks
KEYS = Key.of(1).split(6)
SEPARATE = LSATransformer(
    layers=2, recurrent=False, tokens="separate", positions=4, softmax="first", init_scale=1.0, key_size=5
)
VARIANTS = (
    LSATransformer(init_scale=1.0),
    LSATransformer(init_scale=1.0, layers=3, heads=2, recurrent=False, key_size=2),
    LSATransformer(init_scale=1.0, layers=2, softmax="all", heads=2, layer_norm=True, mlp=2),
    LSATransformer(init_scale=1.0, embedding=Embedding(width=6, hidden=8)),
    LSATransformer(init_scale=1.0, layers=2, embedding=Embedding(width=6, hidden=8), clamp=0.5),
    SEPARATE,
)


def predict(learner: LSATransformer, theta: dict[str, Tensor], tasks: Episode = TASKS) -> Tensor:
    keys = Key.of(1).split(len(tasks.support_x))
    return learner.predict(theta, learner.begin(theta, tasks, keys), tasks.query_x, keys)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_implied_map_is_what_attention_over_tokens_does(heads: int, layers: int, shots: int, outputs: int) -> None:
    family = LINES.but(shots=shots, outputs=outputs)
    tasks = family.sample({}, 6, Key.of(0)).tasks
    learner = LSATransformer(layers=layers, heads=heads, recurrent=False, init_scale=1.0, damping=0.7)
    theta = learner.init(family.spec, Key.of(2))
    torch.testing.assert_close(predict(learner, theta, tasks), predict(learner.but(clamp=1e9), theta, tasks))


def test_an_embedding_goes_with_both() -> None:
    learner = LSATransformer(layers=2, init_scale=1.0, embedding=Embedding(width=6, hidden=8))
    theta = learner.init(LINES.spec, Key.of(2))
    torch.testing.assert_close(predict(learner, theta), predict(learner.but(clamp=1e9), theta))


@pytest.mark.parametrize("learner", VARIANTS)
def test_sensitivities_are_jacobians(learner: LSATransformer) -> None:
    theta = learner.init(LINES.spec, Key.of(2))
    state = learner.begin(theta, TASKS, KEYS)
    _, found = response(learner, theta, state, TASKS.query_x, KEYS)
    wanted = torch.func.jacrev(lambda x: learner.predict(theta, state, x, KEYS).sum((0, 1)))(TASKS.query_x)
    torch.testing.assert_close(found, wanted.movedim(0, 2), rtol=1e-4, atol=1e-5)


def test_a_linear_transformers_sensitivity_is_its_state() -> None:
    learner = LSATransformer(layers=2, init_scale=1.0)
    theta = learner.init(LINES.spec, Key.of(2))
    state = learner.begin(theta, TASKS, KEYS)
    _, found = response(learner, theta, state, TASKS.query_x, KEYS)
    torch.testing.assert_close(found, -state[:, None, :, :3].expand_as(found))


@pytest.mark.parametrize("learner", VARIANTS)
def test_queries_do_not_see_each_other(learner: LSATransformer) -> None:
    theta = learner.init(LINES.spec, Key.of(2))
    alone = TASKS._replace(query_x=TASKS.query_x[:, 1:2])
    torch.testing.assert_close(predict(learner, theta, alone), predict(learner, theta)[:, 1:2])


@pytest.mark.parametrize("learner", VARIANTS)
def test_order_matters_to_separate_tokens_alone(learner: LSATransformer) -> None:
    theta = learner.init(LINES.spec, Key.of(2))
    turned = TASKS._replace(support_x=TASKS.support_x.flip(1), support_y=TASKS.support_y.flip(1))
    same = torch.allclose(predict(learner, theta, turned), predict(learner, theta), rtol=1e-4, atol=1e-6)
    assert same == (learner is not SEPARATE)


def test_softmax_of_no_keys_is_a_mean() -> None:
    learner = LSATransformer(softmax="all", init_scale=1.0)
    theta = learner.init(LINES.spec, Key.of(2))
    theta["key"] = torch.zeros_like(theta["key"])
    mean = torch.cat([TASKS.support_x, TASKS.support_y], -1).mean(1)
    moved = mean @ (theta["projection"] @ theta["value"])[0, 0].mT
    torch.testing.assert_close(predict(learner, theta), -moved[:, None, -1:].expand(-1, 4, -1))


def test_inputs_of_any_shape_are_flattened() -> None:
    learner = LSATransformer(init_scale=1.0)
    spec = SupervisedSpec(inputs=(3, 1), outputs=1, shots=5, queries=4)
    theta = learner.init(spec, Key.of(2))
    shaped = TASKS._replace(support_x=TASKS.support_x[..., None], query_x=TASKS.query_x[..., None])
    torch.testing.assert_close(predict(learner, theta, shaped), predict(learner, theta))


def test_first_weights_have_the_papers_variance() -> None:
    draws = variance_scaling(Key.of(0), (400, 400), 0.002, fan_in=11)
    sd = (0.002 / 11) ** 0.5
    assert float(draws.std()) == pytest.approx(sd, rel=0.02)
    assert float(draws.abs().max()) < 2 * sd / 0.8796 + 1e-6


def test_positions_are_sines_and_cosines() -> None:
    found = sinusoids(3, 4)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found[:, 0], torch.sin(torch.arange(3.0)))
    torch.testing.assert_close(found[:, 3], torch.cos(torch.arange(3.0) / 100))


def test_the_construction_applied_again_and_again_is_damped_gradient_descent() -> None:
    found = iterated(Model(LSATransformer(), construction(3, eta=0.4)), 0.4, TASKS, (1, 5, 30))
    assert found.losses["trained"] == pytest.approx(found.losses["gradient descent"], rel=1e-4)
    assert found.losses["trained"][2] < found.losses["trained"][1] < found.losses["trained"][0]


def test_training_finds_more_than_the_zero_predictor() -> None:
    tasks = LINES.but(queries=1, shots=10)
    experiment = Experiment(
        tasks=tasks,
        learner=LSATransformer(reference=GDPlusPlus(whiten=False, eta=0.9)),
        meta_optimizer=adam(3e-3, clip=1e-3),
        steps=300,
        task_batch=256,
    )
    progress = experiment.begin()
    for _ in range(300):
        progress = experiment.advance(progress)
    outcome = experiment.evaluate(progress.theta, n=2000)
    assert float(outcome.loss.mean()) < 0.6 * zero(tasks.sample({}, 2000, Key.of(0)).tasks)
    assert float(outcome.metrics["cosine"].mean()) > 0.9
    assert progress.outcome is not None
    assert not progress.outcome.metrics  # training steps take no measurements


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokens": "separate", "embedding": Embedding()}, "embedding"),
        ({"positions": 4}, "positions"),
        ({"y_only": True, "mlp": 2}, "y_only"),
        ({"reference": GDPlusPlus(embedding=Embedding())}, "reference"),
    ],
)
def test_settings_that_mean_nothing_together_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(Incompatible, match=reason):
        LSATransformer(**fields)  # type: ignore[arg-type]


def test_tasks_that_it_can_not_learn_are_refused() -> None:
    classes = SupervisedSpec(inputs=(3,), outputs=2, shots=5, queries=4, target="class")
    for learner in (LSATransformer(), GDPlusPlus()):
        with pytest.raises(Incompatible, match="classes"):
            learner.check(classes)
    with pytest.raises(Incompatible, match="one target"):
        SEPARATE.check(LINES.but(outputs=2).spec)


def test_gradient_descent_on_embedded_tokens_is_the_layer_with_the_construction() -> None:
    family = Sinusoid(shots=5, queries=4)
    tasks = family.sample({}, 6, Key.of(0)).tasks
    embedding = Embedding(width=6, hidden=8)
    descent = GDPlusPlus(whiten=False, eta=0.1, embedding=embedding, embedding_scale=1.0)
    theta = descent.init(family.spec, Key.of(3))
    layer = {name: value for name, value in theta.items() if name != "eta"} | construction(5, eta=0.1)
    torch.testing.assert_close(
        Model(LSATransformer(embedding=embedding), layer).losses(tasks), Model(descent, theta).losses(tasks)
    )
