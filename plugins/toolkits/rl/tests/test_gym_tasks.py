"""Gymnasium's environments as tasks: descriptions, copies side by side, and how they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from metaloop import Key, Options, UserError, testing
from metaloop_rl.envs.env import Range
from metaloop_rl.gym import GymCopies, open_env
from metaloop_rl.rollout import begin, rollout
from metaloop_rl.tasks import GymTask, GymTasks
from torch import Tensor


def task(name: str, **settings: float) -> GymTask:
    """One environment with attributes set."""
    return GymTask(id=name, options={}, wrappers=[], settings=settings)


def actions(copies: GymCopies, key: Key) -> Tensor:
    """Random actions for all copies."""
    spec, keys = copies.spec, key.split(len(copies))
    return keys.randint(0, spec.actions) if spec.discrete else keys.uniform(spec.actions, low=-1.0, high=1.0)


@testing.parametrize(
    GymTasks.example(),
    GymTasks(id="Pendulum-v1", vary_options=(Range(name="g", low=5.0, high=15.0),)),
    GymTasks(id="Hopper-v5", vary=(Range(name="model.opt.gravity.2", low=-12.0, high=-8.0),)),
)
def test_families(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Hopper-v5"])
def test_copies_loaded_from_a_checkpoint_go_on_with_the_same_bits(name: str) -> None:
    key, n = Key.of(0), 3
    copies = GymCopies(task(name), n)
    copies.reset(key)
    ended = 0
    for t in range(60):
        step = copies.step(actions(copies, key.fold("act", t)), key.fold(t))
        ended += int(step.done.sum())
    assert ended > 0 or name == "Pendulum-v1"  # 60 of Pendulum's 200 steps
    stored = json.loads(json.dumps(copies.state_dict()))
    again = GymCopies(task(name), n)
    again.load_state_dict(stored)
    assert again.state_dict() == copies.state_dict()
    for t in range(60, 120):
        given = actions(copies, key.fold("act", t))
        one, other = (each.step(given, key.fold(t)) for each in (copies, again))
        for a, b in zip(one[1:], other[1:], strict=True):
            assert torch.equal(a, b)
    assert again.state_dict() == copies.state_dict()
    for each in (copies, again):
        each.close()


def test_copies_step_as_gymnasiums_own_vector_environment_does() -> None:
    n, key = 4, Key.of(1)
    copies = GymCopies(task("CartPole-v1"), n)
    peers = [gymnasium.make("CartPole-v1") for _ in range(n)]
    seen = copies.reset(key)
    for i, peer in enumerate(peers):
        np.testing.assert_array_equal(seen[i], peer.reset(seed=key.fold(i).seed())[0])
    ended = 0
    for t in range(80):
        given = actions(copies, key.fold("act", t))
        step = copies.step(given, key.fold(t))
        for i, peer in enumerate(peers):
            observation, reward, terminated, truncated, _ = peer.step(int(given[i]))
            np.testing.assert_array_equal(step.final_observation[i], observation)
            assert float(step.reward[i]) == reward
            assert (bool(step.terminated[i]), bool(step.truncated[i])) == (terminated, truncated)
            if terminated or truncated:
                ended += 1
                observation, _ = peer.reset(seed=key.fold(t).fold(i).seed())
            np.testing.assert_array_equal(step.observation[i], observation)
    assert ended > n


def test_time_that_is_up_truncates() -> None:
    copies = GymCopies(GymTask(id="Pendulum-v1", options={"max_episode_steps": 3}, wrappers=[], settings={}), 2)
    copies.reset(Key.of(0))
    found = [copies.step(torch.zeros(2, 1), Key.of(t)) for t in range(4)]
    assert [bool(step.truncated.all()) for step in found] == [False, False, True, False]
    assert not any(bool(step.terminated.any()) for step in found)


@pytest.mark.parametrize(
    ("name", "given", "theirs"),
    [
        ("Pendulum-v1", 1.0, 2.0),
        ("Pendulum-v1", -0.25, -0.5),
        ("MountainCarContinuous-v0", 7.0, 1.0),  # its reward counts an action as it is given
        ("MountainCarContinuous-v0", -7.0, -1.0),
    ],
)
def test_actions_are_scaled_to_the_environments_bounds_and_clipped(name: str, given: float, theirs: float) -> None:
    copies, peer = GymCopies(task(name), 1), gymnasium.make(name)
    copies.reset(Key.of(0))
    peer.reset(seed=Key.of(0).fold(0).seed())
    ours = copies.step(torch.tensor([[given]]), Key.of(1))
    observation, reward, *_ = peer.step(np.array([theirs], dtype=np.float32))
    np.testing.assert_array_equal(ours.observation[0], observation)
    assert float(ours.reward[0]) == pytest.approx(float(reward))


@pytest.mark.parametrize(
    ("name", "path", "value", "read"),
    [
        ("CartPole-v1", "gravity", 3.5, lambda env: env.gravity),
        ("Hopper-v5", "model.opt.gravity.2", -4.0, lambda env: env.model.opt.gravity[2]),
        ("Hopper-v5", "model.opt.timestep", 0.001, lambda env: env.model.opt.timestep),
    ],
)
def test_a_setting_changes_the_environment_and_its_course(
    name: str, path: str, value: float, read: Callable[[Any], float]
) -> None:
    changed, plain = (GymCopies(each, 1) for each in (task(name, **{path: value}), task(name)))
    env = open_env(task(name, **{path: value}))
    assert read(env.unwrapped) == value
    courses = []
    for copies in (changed, plain):
        copies.reset(Key.of(0))
        courses.append([copies.step(actions(copies, Key.of(t)), Key.of(t)).observation for t in range(5)])
    assert not torch.equal(courses[0][-1], courses[1][-1])


def test_what_varies_differs_from_task_to_task_and_is_told() -> None:
    family = GymTasks(
        id="Pendulum-v1",
        options=Options(max_episode_steps=50),
        vary=(Range(name="m", low=0.5, high=2.0),),
        vary_options=(Range(name="g", low=5.0, high=15.0),),
    )
    tasks = family.sample({}, 4, Key.of(0)).tasks
    opened = [open_env(each) for each in tasks]
    columns = family.columns(tasks)
    assert [env.unwrapped.m for env in opened] == columns["m"]  # type: ignore[attr-defined]
    assert [env.unwrapped.g for env in opened] == columns["g"]  # type: ignore[attr-defined]
    assert len(set(columns["m"])) == len(set(columns["g"])) == 4
    assert all(5 <= g < 15 for g in columns["g"])
    assert family.spec.horizon == 50
    assert (family.spec.observation, family.spec.actions, family.spec.discrete) == ((3,), 1, False)


def test_wrappers_are_put_on_in_order() -> None:
    family = GymTasks(
        id="CartPole-v1",
        wrappers=(("TimeAwareObservation", Options()), ("FrameStackObservation", Options(stack_size=2))),
    )
    assert family.spec.observation == (2, 5)


def test_structured_observations_become_one_vector() -> None:
    assert GymTasks(id="FrozenLake-v1").spec.observation == (16,)
    assert GymTasks(id="Blackjack-v1").spec.observation == (32 + 11 + 2,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "CartPoll-v1"}, "Gymnasium can't make 'CartPoll-v1'"),
        ({"id": "CartPole-v1", "options": {"colour": "red"}}, "Gymnasium can't make 'CartPole-v1'.*colour"),
        ({"id": "CartPole-v1", "wrappers": (("Rewind", {}),)}, "gymnasium.wrappers has no 'Rewind'"),
        (
            {"id": "CartPole-v1", "vary": ({"name": "gravty", "low": 1.0, "high": 2.0},)},
            "CartPole-v1 has no attribute 'gravty' to vary",
        ),
        (
            {"id": "Hopper-v5", "vary": ({"name": "model.opt.gravity.7", "low": 1.0, "high": 2.0},)},
            "Hopper-v5 has no attribute 'model.opt.gravity.7' to vary",
        ),
        (
            {"id": "CartPole-v1", "wrappers": (("TimeLimit", {"minutes": 3}),)},
            "gymnasium.wrappers.TimeLimit does not fit .CartPole-v1.*minutes",
        ),
        (
            {"id": "CartPole-v1", "vary": ({"name": "state.0", "low": 1.0, "high": 2.0},)},
            "CartPole-v1 has no attribute 'state.0' to vary",
        ),
    ],
)
def test_mistakes_are_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        GymTasks.model_validate(given).spec  # noqa: B018
    assert "\n" not in str(caught.value)


def test_action_spaces_that_no_policy_here_fits_are_refused() -> None:
    class Odd(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        action_space = gymnasium.spaces.MultiBinary(3)

    gymnasium.register("metaloop-tests/Odd-v0", Odd)
    try:
        with pytest.raises(UserError, match="actions must be Discrete or a bounded Box of one axis, not MultiBinary"):
            GymTasks(id="metaloop-tests/Odd-v0").spec  # noqa: B018
    finally:
        del gymnasium.registry["metaloop-tests/Odd-v0"]


def test_one_rollout_serves_gymnasiums_environments_too() -> None:
    key, n, steps = Key.of(2), 3, 40

    def push(observation: Tensor, keys: Key) -> Tensor:
        return keys.randint(0, 2)

    copies, seen = begin(task("CartPole-v1"), n, key)
    found, copies, last = rollout(task("CartPole-v1"), copies, seen, push, key, steps)
    assert found.observation.shape == (steps, n, 4)
    assert found.action.shape == found.reward.shape == found.done.shape == (steps, n)
    assert bool(found.done.any())
    goes_on = ~found.done[:-1]
    assert torch.equal(found.next_observation[:-1][goes_on], found.observation[1:][goes_on])
    assert not torch.equal(found.next_observation[:-1][~goes_on], found.observation[1:][~goes_on])
    assert last.shape == (n, 4)
