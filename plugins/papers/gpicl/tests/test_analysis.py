"""Curves, peers and the rule that names what was learned, on cases known by hand."""

from __future__ import annotations

import pytest
import torch
from metaloop import Episode, Key
from metaloop_gpicl.analysis import Improvement, algorithm, curve, estimate, first, plateau, sizes_of, unseen
from metaloop_gpicl.peers import PEERS, majority, nearest
from metaloop_gpicl.projection import RandomProjectionTasks
from torch import Tensor


def two_clouds(shots: int) -> Episode:
    """Two far-apart clouds of points; the first example is always of class 1."""
    key = Key.of(0)
    y = key.fold("y").randint(0, 2, 3, shots + 20)
    y[:, 0] = 1
    x = 10.0 * y.unsqueeze(-1) - 5.0 + key.fold("x").normal(3, shots + 20, 2)
    return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:])


@pytest.mark.parametrize("name", [name for name in PEERS if name != "commonest class"])
def test_peers_tell_two_clouds_apart_and_guess_from_one_example(name: str) -> None:
    tasks = two_clouds(10)
    assert PEERS[name](tasks).tolist() == [1.0, 1.0, 1.0]
    share = (tasks.query_y == 1).float().mean(1)
    torch.testing.assert_close(PEERS[name](first(tasks, 1)).float(), share)  # one class known: it is what is said


def test_the_commonest_class() -> None:
    tasks = two_clouds(9)
    commonest = (tasks.support_y.sum(1) > 4).long()
    torch.testing.assert_close(majority(tasks), (tasks.query_y == commonest.unsqueeze(1)).float().mean(1))


def test_a_curve_reads_the_first_examples() -> None:
    seen: list[int] = []

    def judge(tasks: Episode) -> Tensor:
        seen.append(tasks.support_x.shape[1])
        return nearest(tasks)

    family = unseen(RandomProjectionTasks(shots=12, queries=4))
    found = curve(judge, family.sample({}, 60, Key.of(0)).tasks, sizes_of(family))
    assert seen == sizes_of(family) == [1, 2, 5, 10, 12]
    assert all(at.low < at.mean < at.high for at in found)
    assert found[-1].mean > found[0].mean + 0.2


def test_an_estimate_without_variation_is_its_value() -> None:
    assert tuple(estimate(torch.ones(4))) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("seen", "new", "name"),
    [
        ((0.25, 0.9), (0.2, 0.8), "general learning"),
        ((0.25, 0.9), (0.2, 0.22), "task identification"),
        ((0.98, 0.99), (0.2, 0.2), "memorisation"),
        ((0.2, 0.21), (0.2, 0.2), "none"),
    ],
)
def test_what_was_learned(seen: tuple[float, float], new: tuple[float, float], name: str) -> None:
    assert algorithm(Improvement(*seen), Improvement(*new), chance=0.2) == name


def test_a_plateau_ends_where_the_loss_is_first_below() -> None:
    rows = [{"step": 10, "eval/loss": 2.3}, {"step": 15, "loss": 0.1}, {"step": 20, "eval/loss": 1.9}]
    assert plateau(rows, 2.0) == 20
    assert plateau(rows, 1.0) is None
