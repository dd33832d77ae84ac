"""Tensor environments as Gymnasium's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from metaloop import Key, tree
from metaloop_rl.adapters import GymnasiumEnv, GymnasiumVectorEnv
from metaloop_rl.envs.acrobot import Acrobot
from metaloop_rl.envs.bandit import BernoulliBandit, GaussianBandit
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.envs.mountain_car import MountainCar, MountainCarContinuous
from metaloop_rl.envs.pendulum import Pendulum

ENVS = [
    CartPole(max_steps=15),
    Acrobot(max_steps=7),
    MountainCar(max_steps=9),
    MountainCarContinuous(max_steps=9),
    Pendulum(max_steps=8),
    BernoulliBandit(max_steps=6),
    GaussianBandit(max_steps=6),
    GridWorld(min_steps=5, max_steps=9, random_start=True),
    GridWorld(min_steps=5, max_steps=9, view="index"),
    GridWorld(min_steps=5, max_steps=9, view="image", random_objects=True),
]
NAMES = [f"{type(env).__name__}-{i}" for i, env in enumerate(ENVS)]
N = 5


@pytest.mark.parametrize("env", ENVS, ids=NAMES)
@pytest.mark.filterwarnings("ignore:.*(infinity|not having a spec).*")
def test_gymnasium_finds_nothing_wrong_with_it(env: Any) -> None:
    check_env(GymnasiumEnv(env))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("env", ENVS, ids=NAMES)
def test_the_vector_environment_gives_what_as_many_single_ones_give(env: Any, mode: AutoresetMode) -> None:
    peer = SyncVectorEnv([lambda: GymnasiumEnv(env) for _ in range(N)], autoreset_mode=mode)
    ours = GymnasiumVectorEnv(env, N, autoreset_mode=mode)
    assert ours.observation_space == peer.observation_space
    assert ours.action_space == peer.action_space
    assert ours.metadata["autoreset_mode"] == peer.metadata["autoreset_mode"]
    same(ours.reset(seed=11), peer.reset(seed=11))
    peer.action_space.seed(3)
    ended = 0
    for t in range(60):
        actions = peer.action_space.sample()
        step, other = ours.step(actions), peer.step(actions)
        same(step, other)
        over = step[2] | step[3]
        ended += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            same(*(each.reset(options={"reset_mask": over.copy()}) for each in (ours, peer)))
        if t == 30:  # one copy begins another stream, one the next episode of its own
            same(*(each.reset(seed=[5, None, 6, None, 7]) for each in (ours, peer)))
    assert ended > N


def same(ours: tuple[Any, ...], peer: tuple[Any, ...]) -> None:
    """Equal in type, shape and keys, and in value but for the last bits of a wider batch."""
    for one, other in zip(ours, peer, strict=True):
        assert data_equivalence(one, other, exact=False), (one, other)


def test_a_seed_names_a_world_and_its_episodes() -> None:
    def episodes(env: gymnasium.Env[Any, Any], seed: int) -> list[list[Any]]:
        seen = [env.reset(seed=seed)[0], env.reset()[0], env.step(1)[0]]
        return [each.tolist() for each in seen]

    env = GymnasiumEnv(GridWorld(view="image", random_start=True))
    once = episodes(env, 4)
    walls = [planes[0] for planes in once]
    assert walls[0] == walls[1] == walls[2]
    assert episodes(env, 4) == once
    assert episodes(GymnasiumEnv(env.env), 4) == once
    assert episodes(env, 5)[0][0] != walls[0]


@pytest.mark.parametrize("env", [CartPole(), GaussianBandit()], ids=["CartPole", "GaussianBandit"])
def test_the_documented_keys_give_the_same_episode_without_the_adapter(env: Any) -> None:
    seed = 9
    wrapped = GymnasiumEnv(env)
    wrapped.reset(seed=seed)
    seen, _ = wrapped.reset()
    root = Key.of(seed)
    state, ours = env.restart(env.draw(root.fold("parameters")), root.fold("episode", 1))
    torch.testing.assert_close(ours, torch.from_numpy(seen))
    for t in range(5):
        step = env.step(state, torch.tensor(t % 2), root.fold("episode", 1, "step", t))
        state = step.state
        seen, reward, *_ = wrapped.step(t % 2)
        torch.testing.assert_close(step.observation, torch.from_numpy(seen))
        assert reward == pytest.approx(float(step.reward))


def test_given_parameters_are_what_it_is_made_of() -> None:
    env = CartPole()
    parameters = tree.map_tensors(lambda leaf: leaf.expand(2).clone(), env.draw(Key.of(0)))
    parameters.gravity[1] = 0.0
    both = GymnasiumVectorEnv(env, 2, parameters)
    both.reset(seed=[3, 3])
    ours = both.step(np.array([1, 1]))[0]
    assert ours[0, 3] != ours[1, 3]
    one = GymnasiumEnv(env, tree.index(parameters, 1))
    one.reset(seed=3)
    np.testing.assert_allclose(one.step(1)[0], ours[1], rtol=1e-6)


def test_continuous_actions_reach_gymnasiums_bounds() -> None:
    env = GymnasiumEnv(Pendulum())
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    (cos, sin, speed), _ = env.reset(seed=0)
    ours = env.step(np.ones(1, np.float32))[0]
    peer = gymnasium.make("Pendulum-v1").unwrapped
    peer.reset(seed=0)
    peer.state = np.array([np.arctan2(sin, cos), speed])  # type: ignore[attr-defined]
    np.testing.assert_allclose(ours, peer.step(np.array([2.0]))[0], atol=1e-5)


def test_steps_need_episodes() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset before step"):
        GymnasiumEnv(CartPole()).step(0)
    off = GymnasiumVectorEnv(CartPole(max_steps=1), 2, autoreset_mode="Disabled")
    with pytest.raises(gymnasium.error.ResetNeeded, match="all copies"):
        off.reset(options={"reset_mask": np.array([True, False])})
    off.reset(seed=0)
    off.step(np.zeros(2, np.int64))
    with pytest.raises(gymnasium.error.ResetNeeded, match="is over"):
        off.step(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="one seed"):
        off.reset(seed=[1, 2, 3])


def test_libraries_train_on_it() -> None:
    peer = pytest.importorskip("stable_baselines3")
    model = peer.A2C("MlpPolicy", GymnasiumEnv(CartPole()), n_steps=8, seed=0, device="cpu").learn(64)
    assert model.num_timesteps == 64
