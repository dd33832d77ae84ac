"""The antagonist beside stable-baselines3's A2C, and on levels whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metaloop import Incompatible, Key, tree
from metaloop_groove.a2c import A2C
from metaloop_groove.peers import peer
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.pendulum import Pendulum
from metaloop_rl.learners.lpg_agent import Heads, Weights
from metaloop_rl.rollout import Trajectory
from metaloop_rl.tasks import Environments

SMALL = Environments(env=grid_family("small").but(view="index"))


def test_one_update_is_that_of_stable_baselines3() -> None:
    pytest.importorskip("stable_baselines3")
    level = SMALL.sample({}, 1, Key.of(0)).tasks
    model = peer(tree.index(level, 0), 16, learning_rate=1.0, vf_coef=1.0, max_grad_norm=1e9)
    heads = model.policy.action_net, model.policy.value_net
    with torch.no_grad():
        for i, head in enumerate(heads):
            head.weight.copy_(0.5 * Key.of(i).normal(*head.weight.shape))
            head.bias.zero_()
    before = [head.weight.detach().T.clone()[None] for head in heads]
    _, callback = model._setup_learn(320)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 20)
    kept = model.rollout_buffer
    states = torch.as_tensor(np.stack([*kept.observations[..., 0], model._last_obs])).long()[
        :, None
    ]  # [time, 1, worker]
    over = np.stack([*kept.episode_starts[1:], model._last_episode_starts]).astype(bool)
    done = torch.as_tensor(over)[:, None]
    action = torch.as_tensor(kept.actions[..., 0]).long()[:, None]
    reward = torch.as_tensor(kept.rewards)[:, None]  # where time was up, what would have come is already in it
    happened = Trajectory(states[:-1], action, reward, done, torch.zeros_like(done), states[1:])
    assert bool(done.any())
    ours = A2C(workers=16, lr=1.0, critic_lr=1.0, heads=Heads(clip=1e9))
    after = ours.improved(*(Weights({"table": table}, ()) for table in before), happened)
    actor, critic = (weights.values["table"] for weights in after)
    model.train()
    theirs = [head.weight.detach().T[None] for head in heads]
    assert float((theirs[1] - before[1]).abs().max()) > 1e-3
    assert torch.allclose(critic, theirs[1], atol=1e-5)
    # Ours divides advantages by the population's deviation, theirs by a sample's: 0.16% apart.
    assert torch.allclose(actor - before[0], theirs[0] - before[0], rtol=2e-3, atol=2e-5)


def test_a_network_learns_to_balance_a_pole() -> None:
    poles = Environments(env=CartPole(max_steps=100)).sample({}, 2, Key.of(0)).tasks
    a2c = A2C(steps=60, workers=16, heads=Heads(adam=1e-2), gamma=0.98, episodes=8)
    keys = Key.of(2).split(2)
    before, after = (agent.live({}, poles, keys)[0].fitness for agent in (a2c.but(steps=0), a2c))
    assert bool((after > 2 * before).all())


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(Incompatible, match="discrete actions"):
        A2C().check(Environments(env=Pendulum()).spec)
