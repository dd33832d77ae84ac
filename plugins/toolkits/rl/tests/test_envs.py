"""Environments in tensors: Gymnasium's equations, and what every tensor environment promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from metaloop import Key, UserError, testing, tree
from metaloop.precision import default_dtype
from metaloop_rl.envs.acrobot import Acrobot
from metaloop_rl.envs.bandit import BernoulliBandit, GaussianBandit
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.env import EnvState, Range, Step
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.envs.mountain_car import MountainCar, MountainCarContinuous
from metaloop_rl.envs.pendulum import Pendulum
from metaloop_rl.tasks import Environments
from torch import Tensor

CLASSIC = [
    # the environment, Gymnasium's name, the greatest values of a state, what Gymnasium's actions are of ours
    (CartPole(), "CartPole-v1", (2.4, 3.0, 0.21, 3.0), 1.0),
    (Acrobot(), "Acrobot-v1", (math.pi, math.pi, 4 * math.pi, 9 * math.pi), 1.0),
    (MountainCar(), "MountainCar-v0", (1.2, 0.07), 1.0),
    (MountainCarContinuous(), "MountainCarContinuous-v0", (1.2, 0.07), 1.0),
    (Pendulum(), "Pendulum-v1", (7.0, 8.0), 2.0),
]
ALL = [
    *(case[0] for case in CLASSIC),
    BernoulliBandit(arms=4),
    GaussianBandit(arms=4),
    GridWorld(min_steps=5, max_steps=12),
    GridWorld(min_steps=5, max_steps=12, view="index", random_start=True),
    GridWorld(min_steps=5, max_steps=12, view="image", random_objects=True),
]
NAMES = [f"{type(env).__name__}-{i}" for i, env in enumerate(ALL)]
every = pytest.mark.parametrize("env", ALL, ids=NAMES)


def some_actions(env: Any, key: Key) -> Tensor:
    """Actions for keys `[*batch]`."""
    return key.randint(0, env.actions) if env.discrete else key.uniform(env.actions, low=-1.0, high=1.0)


def course(env: Any, n: int, steps: int, key: Key) -> list[Step]:
    """Random actions in `n` environments."""
    state, _ = env.reset(key.fold("reset"), n)
    found = []
    for t in range(steps):
        keys = key.fold(t).split(n)
        found.append(env.step_and_reset(state, some_actions(env, keys.fold("act")), keys))
        state = found[-1].state
    return found


@pytest.mark.parametrize(("env", "name", "greatest", "scale"), CLASSIC, ids=[case[1] for case in CLASSIC])
def test_one_step_is_gymnasiums_from_ten_thousand_random_states(
    env: Any, name: str, greatest: tuple[float, ...], scale: float
) -> None:
    n = 10_000
    with default_dtype(torch.float64):
        key = Key.of(0)
        ranges = torch.tensor(greatest)
        values = key.uniform(n, len(greatest), low=-1.0, high=1.0) * ranges
        actions = some_actions(env, key.fold("act").split(n))
        physics = env.start(env.draw(key), key)._make(values.unbind(-1))
        state = EnvState(physics, torch.zeros(n, dtype=torch.int64), env.draw(key.split(n)))
        ours = env.step(state, actions, key.split(n))
        after = torch.stack(list(ours.state.physics), dim=-1)
    peer = gymnasium.make(name).unwrapped
    peer.reset(seed=0)
    for i, (start, action) in enumerate(zip(values.numpy(), actions.numpy(), strict=True)):
        peer.state = start.copy()  # type: ignore[attr-defined]
        if isinstance(peer.unwrapped, gymnasium.envs.classic_control.CartPoleEnv):
            peer.steps_beyond_terminated = None  # type: ignore[attr-defined]
        seen, reward, terminated, *_ = peer.step(int(action) if env.discrete else action * scale)
        np.testing.assert_allclose(after[i], np.asarray(peer.state), atol=1e-5, rtol=0)  # type: ignore[attr-defined]
        np.testing.assert_allclose(ours.observation[i], seen, atol=1e-5, rtol=0)
        assert float(ours.reward[i]) == pytest.approx(float(reward), abs=1e-5)
        assert bool(ours.terminated[i]) == terminated
    assert {torch.float64} == {part.dtype for part in (after, ours.observation, ours.reward)}


@pytest.mark.parametrize(("env", "name", "greatest", "scale"), CLASSIC, ids=[case[1] for case in CLASSIC])
def test_episodes_begin_and_end_as_gymnasiums_do(
    env: Any, name: str, greatest: tuple[float, ...], scale: float
) -> None:
    peer = gymnasium.make(name)
    assert peer.spec is not None
    assert env.spec.horizon == peer.spec.max_episode_steps
    assert env.spec.observation == peer.observation_space.shape
    theirs = np.stack([peer.reset(seed=i)[0] for i in range(2000)])
    ours = env.reset(Key.of(0), 2000)[1].numpy()
    for part in (np.min, np.mean, np.max):
        np.testing.assert_allclose(part(ours, 0), part(theirs, 0), atol=0.06)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.05, atol=1e-3)


@testing.parametrize(
    Environments.example(),
    Environments(env=Acrobot(), vary=(Range(name="mass_1", low=0.5, high=2.0),)),
    Environments(env=MountainCar(), vary=(Range(name="gravity", low=0.002, high=0.003),)),
    Environments(env=MountainCarContinuous(), vary=(Range(name="goal", low=0.3, high=0.5),)),
    Environments(env=Pendulum(), vary=(Range(name="length", low=0.5, high=1.5),)),
    Environments(env=BernoulliBandit()),
    Environments(env=GaussianBandit(), vary=(Range(name="noise", low=0.1, high=1.0),)),
    Environments(env=GridWorld.example()),
    Environments(env=GridWorld(view="image", random_objects=True)),
)
def test_families(check: Callable[[], None]) -> None:
    check()


@every
def test_a_batch_is_its_rows_one_by_one_and_under_vmap(env: Any) -> None:
    """Outside `vmap` only ended rows begin anew; inside all do, and those that ended are chosen."""
    n, key = 7, Key.of(1)
    env = env.but(max_steps=6, **({"min_steps": 3} if isinstance(env, GridWorld) else {}))
    state, _ = env.reset(key, n)
    state = state._replace(time=torch.arange(n) % 6)
    for t in range(8):
        keys = key.fold(t).split(n)
        actions = some_actions(env, keys)
        whole = env.step_and_reset(state, actions, keys)
        mapped = torch.func.vmap(env.step_and_reset)(state, actions, keys)
        alike(whole, mapped)
        for i in range(n):
            alike(tree.index(whole, i), env.step_and_reset(tree.index(state, i), actions[i], keys[i]))
        state = whole.state
    alike(torch.func.vmap(env.draw)(key.split(n)), env.draw(key.split(n)))
    two_axes = env.reset(key.split(2), 3)[0]
    assert two_axes.time.shape == (2, 3)


def alike(one: Any, other: Any) -> None:
    """Equal but for last bits, in structure and types too."""
    tree.tree_map(lambda a, b: torch.testing.assert_close(a, b), one, other)


@every
def test_a_step_changes_none_of_what_it_is_given(env: Any) -> None:
    key = Key.of(2)
    env = env.but(max_steps=1, **({"min_steps": 1} if isinstance(env, GridWorld) else {}))
    state, _ = env.reset(key, 4)
    before = tree.clone(state)
    step = env.step_and_reset(state, some_actions(env, key.split(4)), key.split(4))
    assert bool(step.done.all())
    alike(before, state)


@every
def test_an_episode_that_ends_shows_its_end_and_begins_anew(env: Any) -> None:
    key, n = Key.of(3), 64
    state, _ = env.reset(key, n)
    for t in range(14):
        keys = key.fold(t).split(n)
        actions = some_actions(env, keys.fold("act"))
        plain = env.step(state, actions, keys.fold("step"))
        step = env.step_and_reset(state, actions, keys)
        alike(step.final_observation, plain.observation)
        over = step.done
        first = env.restart(state.parameters, keys.fold("reset"))[1]
        alike(step.observation[over], first[over])
        alike(step.observation[~over], plain.observation[~over])
        alike(step.state.time, torch.where(over, 0, state.time + 1))
        assert bool((step.truncated == (state.time + 1 >= env.time_limit(state.parameters))).all())
        alike(step.state.parameters, state.parameters)
        state = step.state


def test_actions_outside_the_bounds_are_clipped_and_gradients_pass_through_a_step() -> None:
    env = Pendulum()
    with default_dtype(torch.float64):
        state, _ = env.reset(Key.of(0), 3)

        def felt(action: Tensor) -> Tensor:
            step = env.step_and_reset(state, action, Key.of(1).split(3))
            return step.reward + step.observation.sum(-1)

        one = torch.ones(3, 1)
        torch.testing.assert_close(felt(5 * one), felt(one))
        assert torch.autograd.gradcheck(felt, (0.3 * one).requires_grad_())


def test_what_varies_changes_the_course_of_its_own_task_alone() -> None:
    family = Environments(env=CartPole(), vary=(Range(name="gravity", low=1.0, high=20.0),))
    tasks = family.sample({}, 3, Key.of(0)).tasks
    gravity = tasks.parameters.gravity
    assert bool(((gravity >= 1) & (gravity < 20)).all())
    assert len(set(gravity.tolist())) == 3
    assert family.columns(tasks) == {"gravity": gravity.tolist()}
    state, _ = tasks.env.reset(Key.of(1).fold(torch.zeros(3, dtype=torch.int64)), 2, tasks.parameters)
    step = tasks.env.step(state, torch.ones(3, 2, dtype=torch.int64), Key.of(2).split(3).split(2))
    assert len({tuple(row) for row in step.observation[:, 0].tolist()}) == 3


@pytest.mark.parametrize(
    ("env", "name", "known"),
    [(CartPole(), "tau", "gravity"), (GridWorld(), "walls", "none"), (BernoulliBandit(), "means", "none")],
)
def test_what_can_not_vary_is_refused_by_name(env: Any, name: str, known: str) -> None:
    with pytest.raises(UserError, match=f"vary: {type(env).__name__} has no parameter '{name}'.*{known}"):
        Environments(env=env, vary=(Range(name=name, low=0.0, high=1.0),))


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(UserError, match="'gravity': low 2 is above high 1"):
        Range(name="gravity", low=2.0, high=1.0)
    with pytest.raises(UserError, match=r"BernoulliBandit: low 0\.9 is above high 0\.1"):
        BernoulliBandit(low=0.9, high=0.1)


def test_arms_pay_what_their_means_say() -> None:
    n, key = 20_000, Key.of(5)
    for env, deviation in (
        (BernoulliBandit(arms=3, low=0.2, high=0.8), None),
        (GaussianBandit(arms=3, noise=0.5), 0.5),
    ):
        world = env.draw(key)
        state, _ = env.reset(key, n, world)
        for arm in range(3):
            reward = env.step(state, torch.full((n,), arm), key.fold(arm).split(n)).reward
            mean = float(world.means[arm])
            spread = deviation or math.sqrt(mean * (1 - mean))
            assert float(reward.mean()) == pytest.approx(mean, abs=4 * spread / math.sqrt(n))
            assert float(reward.std()) == pytest.approx(spread, rel=0.05)
    means = BernoulliBandit(arms=3, low=0.2, high=0.8).draw(key.split(2000)).means
    assert 0.2 <= float(means.min()) < 0.21
    assert 0.79 < float(means.max()) < 0.8
    assert float(GaussianBandit(arms=5, mean=2.0, spread=3.0).draw(key.split(2000)).means.std()) == pytest.approx(
        3, rel=0.05
    )


@pytest.mark.slow
def test_a_step_compiles_to_one_graph_and_stays_what_it_is() -> None:
    n, key = 64, Key.of(6)
    for env in (CartPole(max_steps=5), GridWorld(min_steps=3, max_steps=5)):
        state, _ = env.reset(key, n)
        quick = torch.compile(env.step_and_reset, fullgraph=True)
        for t in range(6):
            keys = key.fold(t).split(n)
            actions = some_actions(env, keys)
            step = env.step_and_reset(state, actions, keys)
            alike(quick(state, actions, keys), step)
            state = step.state


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every
def test_a_gpu_gives_the_same_course(env: Any) -> None:
    here, there = (course(env, 100, 20, Key.of(7, device)) for device in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        alike(one, tree.to(other, "cpu"))
