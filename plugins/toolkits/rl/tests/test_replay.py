"""The ring of past rows."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key, tree
from metaloop_rl.replay import Replay
from torch import Tensor
from torch.func import vmap


def rows(first: int, n: int) -> dict[str, Tensor]:
    numbers = torch.arange(first, first + n)
    return {"a": numbers.float()[:, None].expand(n, 2), "b": numbers}


def empty(capacity: int) -> Replay:
    return Replay.of(capacity, {"a": torch.zeros(2), "b": torch.tensor(0)})


def test_the_oldest_rows_go_first() -> None:
    buffer = empty(5).add(rows(0, 3))
    assert int(buffer.size) == 3
    buffer = buffer.add(rows(3, 4))
    assert int(buffer.size) == 5
    assert buffer.rows["b"].sort().values.tolist() == [2, 3, 4, 5, 6]
    assert torch.equal(buffer.rows["a"][:, 0], buffer.rows["b"].float())


def test_adding_in_place_adds_the_same() -> None:
    pure, written = empty(5), empty(5)
    for first in (0, 3, 6):
        before = tree.clone(pure)
        after, written = pure.add(rows(first, 3)), written.add_(rows(first, 3))
        assert all(torch.equal(pure.rows[name], before.rows[name]) for name in pure.rows)
        pure = after
    assert all(torch.equal(pure.rows[name], written.rows[name]) for name in pure.rows)


def test_samples_are_whole_rows_of_those_that_are_there_each_as_often() -> None:
    buffer = empty(100).add(rows(5, 4))
    drawn = buffer.sample(Key.of(0), 8000)
    assert torch.equal(drawn["a"][:, 1], drawn["b"].float())
    shares = drawn["b"].bincount(minlength=9)[5:] / 8000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.02, rtol=0)
    assert torch.equal(buffer.sample(Key.of(0), 10)["b"], drawn["b"][:10])


def test_buffers_of_a_batch_of_tasks_are_buffers_of_their_own() -> None:
    def life(first: Tensor, key: Key) -> tuple[Replay, dict[str, Tensor]]:
        buffer = Replay.of(3, {"b": first})
        for i in range(4):
            buffer = buffer.add({"b": (first + i)[None]})
        return buffer, buffer.sample(key, 50)

    first, keys = torch.tensor([0, 100]), Key.of(0).split(2)
    together, drawn = vmap(life)(first, keys)
    assert together.rows["b"].sort(-1).values.tolist() == [[1, 2, 3], [101, 102, 103]]
    for i in range(2):
        assert torch.equal(life(first[i], keys[i])[1]["b"], drawn["b"][i])


def test_more_rows_than_it_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="can't take 6"):
        empty(5).add(rows(0, 6))
