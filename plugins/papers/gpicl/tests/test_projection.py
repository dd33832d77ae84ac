"""Tasks by random projection: what a task's number fixes, what projections keep, and what bias does."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from metaloop import Key, UserError
from metaloop.errors import DataError
from metaloop.outcome import outcome
from metaloop_gpicl.analysis import elsewhere, unseen
from metaloop_gpicl.data import Bundled, Torchvision
from metaloop_gpicl.projection import BiasedTasks, Numbers, RandomProjectionTasks

DIGITS = RandomProjectionTasks(shots=8, queries=4)


def test_a_projection_keeps_lengths_and_angles_on_average() -> None:
    wide = DIGITS.but(shots=200, queries=1, ways=10)
    rows = DIGITS.data.rows(torch.device("cpu")).x
    x = wide.sample({}, 40, Key.of(0)).tasks.support_x
    assert float(x.square().sum(-1).mean() / rows.square().sum(-1).mean()) == pytest.approx(1.0, abs=0.1)
    assert float(x.mean()) == pytest.approx(0.0, abs=0.05)
    narrow = elsewhere(DIGITS, "iris").but(shots=60).sample({}, 200, Key.of(0)).tasks.support_x
    assert float(narrow.square().mean()) == pytest.approx(1.0, abs=0.1)  # four columns, as long as 64 pixels


def test_a_number_is_one_task_in_any_batch() -> None:
    """The map from images to inputs, and from classes to labels, depends on the number alone."""
    images, seven, others = Key.of(3).split(4), torch.full((4,), 7), torch.tensor([7, 1, 2, 7])
    alone, among = (DIGITS.episodes(Numbers(n, n), images) for n in (seven, others))
    for row in (0, 3):
        for a, b in zip(alone, among, strict=True):
            torch.testing.assert_close(a[row], b[row])
    assert not torch.allclose(alone.support_x[1], among.support_x[1])
    assert not torch.allclose(DIGITS.but(seed=1).episodes(Numbers(seven, seven), images).support_x, alone.support_x)


def test_tasks_are_as_many_as_asked_for() -> None:
    assert set(DIGITS.but(n_tasks=4).sample({}, 200, Key.of(0)).tag.tolist()) == {0, 1, 2, 3}
    assert len(set(DIGITS.sample({}, 200, Key.of(0)).tag.tolist())) == 200


def test_queries_are_not_among_the_examples() -> None:
    tasks = elsewhere(DIGITS, "iris").but(shots=100, queries=50, ways=3).sample({}, 3, Key.of(0)).tasks
    data = Bundled(name="iris").rows(torch.device("cpu")).x
    twice = len(data) - len(data.unique(dim=0))  # iris has a flower that is there twice
    equal = (torch.cdist(tasks.query_x, tasks.support_x) < 1e-4).any(-1).sum(1)
    assert int(equal.max()) <= twice
    assert all(
        sorted(row.bincount().tolist()) == [50, 50, 50] for row in torch.cat([tasks.support_y, tasks.query_y], 1)
    )


def test_held_out_images_are_other_images() -> None:
    train, held = (Bundled(part=part).load()[0] for part in ("train", "held-out"))
    assert (len(train), len(held)) == (1347, 450)
    assert unseen(DIGITS).data.part == "held-out"
    assert unseen(DIGITS.but(n_tasks=8)).seed != DIGITS.seed
    assert int((torch.cdist(held, train) < 1e-9).any(1).sum()) == 0


def test_contexts_that_vary_repeat_their_first_examples() -> None:
    tasks = DIGITS.but(vary=True).sample({}, 300, Key.of(0)).tasks
    sizes = [len(row.unique(dim=0)) for row in tasks.support_x]
    assert set(sizes) == set(range(1, 9))
    for row, labels, size in zip(tasks.support_x, tasks.support_y, sizes, strict=True):
        torch.testing.assert_close(row, row[torch.arange(8) % size])
        assert labels.tolist() == labels[torch.arange(8) % size].tolist()


def test_fewer_classes_than_slots_leave_some_empty() -> None:
    tasks = elsewhere(DIGITS, "breast_cancer").but(shots=60).sample({}, 50, Key.of(0)).tasks
    assert all(len(row.unique()) == 2 for row in tasks.support_y)
    assert len(tasks.support_y.unique()) == 5


def test_bias_fixes_labels_and_leaves_projections() -> None:
    state, key = BiasedTasks(tasks=DIGITS).begin(Key.of(0)), Key.of(1)
    biased = BiasedTasks(tasks=DIGITS.but(shots=60), fraction=0.5).sample(state, 400, key)
    assert 0.4 < float(biased.tag.float().mean()) < 0.6
    digits = DIGITS.data.rows(torch.device("cpu"))
    fixed = DIGITS.but(ways=10, shots=60)
    _, slots = fixed._classes(len(digits.counts), Key.of(0).fold("tasks", "labels").fold(torch.tensor([-1, -1, 5])))
    assert slots[0].tolist() == slots[1].tolist() != slots[2].tolist()
    x = biased.tasks.support_x[biased.tag == 1]
    assert not torch.allclose(x[0].mT @ x[0], x[1].mT @ x[1], atol=5.0)
    whole = BiasedTasks(tasks=DIGITS, fixed="task", fraction=1.0)
    one, other = (whole.sample(state, 1, Key.of(seed)).tasks for seed in (0, 1))
    assert torch.linalg.matrix_rank(torch.cat([one.support_x[0], other.support_x[0]])) <= 16


def test_the_curriculum_drops_its_bias_once_other_tasks_are_learned() -> None:
    family = BiasedTasks(tasks=DIGITS, fraction=0.5, drop_below=0.9, memory=0.5)
    state, guessing = family.begin(Key.of(0)), math.log(5)
    draw = family.sample(state, 64, Key.of(0))
    known = torch.where(draw.tag == 1, 0.0, guessing)  # the biased tasks alone are known: nothing is dropped
    for _ in range(5):
        state = family.observe(state, draw, outcome(known))
    assert int(family.sample(state, 64, Key.of(1)).tag.sum()) > 0
    for _ in range(5):
        state = family.observe(state, draw, outcome(known * 0.5))
    assert int(family.sample(state, 64, Key.of(1)).tag.sum()) == 0
    state = family.observe(state, draw, outcome(known))
    assert int(family.sample(state, 64, Key.of(1)).tag.sum()) == 0  # for good


def test_what_can_not_be_drawn_is_refused() -> None:
    with pytest.raises(DataError, match="takes 160"):
        _ = RandomProjectionTasks(data=Bundled(name="iris"), ways=3, shots=150, queries=10).spec
    with pytest.raises(UserError, match="too narrow for data of 64"):
        _ = DIGITS.but(width=32).spec


def test_torchvision_data_say_what_is_missing() -> None:
    with pytest.raises(UserError, match="name one"):
        Torchvision(part="all").load()
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(UserError, match=r"basics\[vision\]"):
            _ = RandomProjectionTasks(data=Torchvision(part="train")).spec
    else:
        with pytest.raises(DataError, match="is not in"):
            _ = RandomProjectionTasks(data=Torchvision(part="train", root="nowhere")).spec
