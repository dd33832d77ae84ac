"""MinAtar's games as Gymnasium tasks."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key
from metaloop_rl.gym import GymCopies
from metaloop_rl.tasks import GymTasks


@pytest.mark.parametrize(("game", "planes", "actions"), [("Breakout", 4, 3), ("Asterix", 4, 5)])
def test_the_games_are_tasks_and_go_on_after_a_checkpoint_with_the_same_bits(
    game: str, planes: int, actions: int
) -> None:
    family = GymTasks(id=f"MinAtar/{game}-v1")
    assert (family.spec.observation, family.spec.actions) == ((10, 10, planes), actions)
    [task] = family.sample({}, 1, Key.of(0)).tasks
    copies, again, key = GymCopies(task, 3), GymCopies(task, 3), Key.of(1)
    copies.reset(key)
    ended = 0
    for t in range(80):
        step = copies.step(key.fold("act", t).split(3).randint(0, actions), key.fold(t))
        ended += int(step.done.sum())
    assert ended > 0
    again.load_state_dict(copies.state_dict())
    for t in range(80, 120):
        given = key.fold("act", t).split(3).randint(0, actions)
        one, other = (each.step(given, key.fold(t)) for each in (copies, again))
        assert all(torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))
