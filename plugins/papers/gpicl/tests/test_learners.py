"""Identities of the black-box learners, by hand and by symmetry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop import Episode, Key, UserError, tree
from metaloop.precision import default_dtype
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_gpicl.incontext import InContextLearner, parameters
from metaloop_gpicl.peers import Model
from metaloop_gpicl.projection import RandomProjectionTasks
from metaloop_gpicl.recurrent import Lstm, OuterProductLstm
from metaloop_gpicl.transformer import InContextTransformer
from metaloop_gpicl.vsml import Vsml
from torch import Tensor, nn

TASKS = RandomProjectionTasks(shots=6, queries=3)
KEYS = Key.of(0).split(4)
SET = InContextTransformer(width=16, heads=2, feedforward=32)
CAUSAL = SET.but(format="causal", positions="rotary")
LEARNERS: list[InContextLearner] = [SET, CAUSAL, Lstm(width=8), OuterProductLstm(width=8), Vsml(width=4, ticks=1)]
BOTH = [*LEARNERS, *(learner.but(format="causal") for learner in LEARNERS[2:])]


def episodes() -> Episode:
    return TASKS.sample({}, 4, Key.of(1)).tasks


def predictions(learner: InContextLearner, theta: dict[str, Tensor], tasks: Episode) -> Tensor:
    return learner.predict(theta, learner.begin(theta, tasks, KEYS), tasks.query_x, KEYS)


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda each: type(each).__name__)
def test_the_state_has_the_numbers_that_it_says(learner: InContextLearner) -> None:
    state = learner.begin(learner.init(TASKS.spec, Key.of(0)), episodes(), KEYS)
    kept = sum(leaf.numel() for leaf in tree.leaves(state.memory)) // 4
    assert kept == learner.state_size(TASKS.spec)


def test_sizes_by_hand() -> None:
    spec = TASKS.spec
    assert InContextTransformer(width=64, layers=2).state_size(spec) == 6 * 2 * 2 * 64
    assert Lstm(width=64, layers=2).state_size(spec) == 256
    assert OuterProductLstm(width=64, layers=1).state_size(spec) == 64 * 65
    assert Vsml(width=8).state_size(spec) == 2 * 64 * 5 * 8
    embedding, head = 64 * 8 + 8 + 5 * 8, 8 * 5 + 5
    assert parameters(Lstm(width=8, layers=1).init(spec, Key.of(0))) == embedding + 2 * 32 * 8 + 32 + head


@pytest.mark.parametrize("learner", BOTH, ids=lambda each: f"{type(each).__name__} {each.format}")
def test_no_label_leaks_to_where_it_is_predicted(learner: InContextLearner) -> None:
    """Predictions at place t don't change with the label there, nor with anything later."""
    theta, tasks = learner.init(TASKS.spec, Key.of(0)), episodes()
    out, _ = learner.live(theta, tasks, KEYS)
    before, answers = learner.begin(theta, tasks, KEYS).outputs, predictions(learner, theta, tasks)
    changed = tasks._replace(query_y=(tasks.query_y + 1) % 5)
    torch.testing.assert_close(predictions(learner, theta, changed), answers)
    assert not torch.allclose(learner.live(theta, changed, KEYS)[0].loss, out.loss)
    if learner.format == "set":
        assert before.shape[1] == 0  # no prediction is made where labels are known
        return
    for t in (0, 3, 5):
        x, y = tasks.support_x.clone(), (tasks.support_y + 1) % 5
        y[:, :t], x[:, t + 1 :] = tasks.support_y[:, :t], 9.0
        after = learner.begin(theta, tasks._replace(support_x=x, support_y=y), KEYS).outputs
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        assert t == 5 or not torch.allclose(after[:, t + 1 :], before[:, t + 1 :])


def test_a_query_alone_is_the_next_place_of_the_sequence() -> None:
    """Reading context and query in one go, or the query after what was kept of the context, is the same."""
    with default_dtype(torch.float64):
        one = RandomProjectionTasks(shots=6, queries=1)
        tasks = one.sample({}, 4, Key.of(1)).tasks
        for learner in (CAUSAL, CAUSAL.but(positions="learned"), CAUSAL.but(positions="none")):
            theta = learner.init(one.spec, Key.of(0))
            whole, state = learner.live(theta, tasks, KEYS)
            apart = learner.evaluate(theta, learner.begin(theta, tasks, KEYS), tasks, KEYS)
            torch.testing.assert_close(whole.loss, apart.loss)
            torch.testing.assert_close(state, learner.begin(theta, tasks, KEYS))


def test_a_set_has_no_order_and_a_sequence_has() -> None:
    tasks, order = episodes(), torch.tensor([3, 1, 0, 5, 2, 4])
    other = tasks._replace(support_x=tasks.support_x[:, order], support_y=tasks.support_y[:, order])
    for learner, same in ((SET, True), (CAUSAL, False), (Lstm(width=8), False)):
        theta = learner.init(TASKS.spec, Key.of(0))
        found = torch.allclose(predictions(learner, theta, tasks), predictions(learner, theta, other), atol=1e-5)
        assert found is same


def test_queries_do_not_see_each_other() -> None:
    tasks = episodes()
    for learner in LEARNERS:
        theta = learner.init(TASKS.spec, Key.of(0))
        state = learner.begin(theta, tasks, KEYS)
        alone = learner.predict(theta, state, tasks.query_x[:, 1:2], KEYS)
        torch.testing.assert_close(alone, predictions(learner, theta, tasks)[:, 1:2], atol=1e-5, rtol=1e-4)


def test_vsml_does_not_care_how_classes_and_inputs_are_numbered() -> None:
    learner, tasks = Vsml(width=4, ticks=2), episodes()
    theta = learner.init(TASKS.spec, Key.of(0))
    classes, inputs = torch.tensor([2, 0, 1, 4, 3]), torch.randperm(64, generator=torch.Generator().manual_seed(0))
    other = Episode(
        tasks.support_x[..., inputs], classes[tasks.support_y], tasks.query_x[..., inputs], classes[tasks.query_y]
    )
    torch.testing.assert_close(
        predictions(learner, theta, other)[..., classes], predictions(learner, theta, tasks), atol=1e-5, rtol=1e-4
    )


def test_the_blocks_are_torchs() -> None:
    """The causal transformer is `nn.TransformerEncoder` with its own weights."""
    learner = CAUSAL.but(positions="learned")
    theta, tasks = learner.init(TASKS.spec, Key.of(0)), episodes()
    module: Any = learner.module_for(TASKS.spec)
    module.load_state_dict(theta)
    shifted = nn.functional.one_hot(tasks.support_y, 5).float().roll(1, 1)
    shifted[:, 0] = 0
    tokens = module["x"](tasks.support_x) + module["y"](shifted) + module["positions"].weight[:6]
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    for layer in module["layers"]:
        tokens = layer(tokens, src_mask=mask)
    expected = module["head"](module["norm"](tokens))
    torch.testing.assert_close(learner.begin(theta, tasks, KEYS).outputs, expected, atol=1e-5, rtol=1e-4)


def test_real_targets_have_squared_error() -> None:
    lines = LinearRegression(inputs=3, shots=5, queries=2)
    tasks = lines.sample({}, 4, Key.of(0)).tasks
    for learner in LEARNERS:
        theta = learner.init(lines.spec, Key.of(0))
        out, state = learner.live(theta, tasks, KEYS)
        error = (learner.predict(theta, state, tasks.query_x, KEYS) - tasks.query_y).square().mean((1, 2))
        torch.testing.assert_close(-out.fitness, error)


def test_without_training_accuracy_is_chance() -> None:
    tasks = TASKS.sample({}, 600, Key.of(4)).tasks
    for learner in LEARNERS:
        accuracy = float(Model(learner, learner.init(TASKS.spec, Key.of(0)))(tasks).mean())
        assert accuracy == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"width": 30, "heads": 4}, "not a multiple of heads"),
        ({"positions": "learned"}, "a set has none"),
        ({"format": "causal", "positions": "rotary", "width": 6, "heads": 2}, "each head has 3"),
    ],
)
def test_settings_that_mean_nothing_together_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        InContextTransformer(**fields)


def test_learned_places_end() -> None:
    learner = CAUSAL.but(positions="learned")
    theta, longer = learner.init(TASKS.spec, Key.of(0)), TASKS.but(shots=9).sample({}, 4, Key.of(0)).tasks
    with pytest.raises(UserError, match="learned for contexts of 6 examples"):
        learner.begin(theta, longer, KEYS)
    rotary = CAUSAL.init(TASKS.spec, Key.of(0))
    assert CAUSAL.begin(rotary, longer, KEYS).outputs.shape == (4, 9, 5)
