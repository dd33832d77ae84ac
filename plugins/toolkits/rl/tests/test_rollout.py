"""Rollouts of both kinds of environments, and what is kept of their episodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop import Key, tree
from metaloop_rl.episodes import Episodes
from metaloop_rl.rollout import Trajectory, begin, rollout
from metaloop_rl.tasks import Environments, GymTasks
from torch import Tensor
from torch.func import vmap

N = 3


def left_and_right(observation: Tensor, key: Key) -> Tensor:
    return (key.uniform() < 0.5).long()


def task_of(kind: str) -> Any:
    if kind == "tensor":
        family = Environments()
        return tree.index(family.sample({}, 1, Key.of(0)).tasks, 0)
    return GymTasks().sample({}, 1, Key.of(0)).tasks[0]


@pytest.mark.parametrize("kind", ["tensor", "gym"])
def test_episodes_follow_one_another(kind: str) -> None:
    task, key = task_of(kind), Key.of(3)
    state, seen = begin(task, N, key.fold("begin"))
    what, _, after = rollout(task, state, seen, left_and_right, key, 60)
    assert what.reward.shape == (60, N)
    assert what.done.any()
    assert not what.truncated.any()
    goes_on = ~what.done[:-1]
    torch.testing.assert_close(what.next_observation[:-1][goes_on], what.observation[1:][goes_on])
    ended = what.next_observation[what.done]  # the last thing that was seen, not the next episode's first
    assert ((ended[:, 0].abs() > 2.4) | (ended[:, 2].abs() > 0.2)).all()
    torch.testing.assert_close(after[~what.done[-1]], what.next_observation[-1][~what.done[-1]])


@pytest.mark.parametrize("kind", ["tensor", "gym"])
def test_a_rollout_depends_on_its_keys_alone(kind: str) -> None:
    def run(seed: int) -> Trajectory:
        task = task_of(kind)
        state, seen = begin(task, N, Key.of(seed))
        return rollout(task, state, seen, left_and_right, Key.of(seed), 20)[0]

    assert all(torch.equal(one, other) for one, other in zip(run(1), run(1), strict=True))
    assert not torch.equal(run(1).action, run(2).action)


def test_tasks_in_a_batch_roll_out_as_they_do_alone() -> None:
    tasks, keys = Environments().sample({}, 4, Key.of(0)).tasks, Key.of(1).split(4)

    def life(task: Any, key: Key) -> Tensor:
        state, seen = begin(task, N, key)
        return rollout(task, state, seen, left_and_right, key, 15)[0].observation

    together = vmap(life)(tasks, keys)
    for i in range(4):
        torch.testing.assert_close(life(tree.index(tasks, i), keys[i]), together[i])


def episodes_of(reward: Tensor, done: Tensor, window: int, parts: int) -> Episodes:
    kept = Episodes.of(reward.shape[1], window, reward)
    for now, over in zip(reward.chunk(parts), done.chunk(parts), strict=True):
        kept = kept.update(now, over)
    return kept


@pytest.mark.parametrize("window", [2, 5, 100])
def test_the_last_episodes_are_kept(window: int) -> None:
    reward, done = Key.of(0).uniform(60, N), Key.of(1).uniform(60, N) < 0.1
    ended, sums, lengths = [], torch.zeros(N), torch.zeros(N)
    for t in range(60):
        sums, lengths = sums + reward[t], lengths + 1
        for i in range(N):
            if done[t, i]:
                ended.append((sums[i].item(), lengths[i].item()))
                sums[i], lengths[i] = 0, 0
    kept = episodes_of(reward, done, window, parts=4)
    assert int(kept.ended) == len(ended) > 5
    last = torch.tensor(ended[-window:])
    torch.testing.assert_close(kept.mean_return, last[:, 0].mean())
    torch.testing.assert_close(kept.mean_length, last[:, 1].mean())
    torch.testing.assert_close(kept.running_return, sums)


def test_before_the_first_episode_ended_the_running_ones_count() -> None:
    kept = episodes_of(torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.bool), 3, parts=2)
    assert kept.mean_return.item() == kept.mean_length.item() == 4
