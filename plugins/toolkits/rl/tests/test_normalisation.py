"""Running statistics beside stable-baselines3's, and beside those of all values at once."""

from __future__ import annotations

import numpy as np
import torch
from metaloop import Key
from metaloop_rl.normalisation import Moments, RewardScale
from stable_baselines3.common.running_mean_std import RunningMeanStd


def test_moments_are_stable_baselines() -> None:
    ours, peer = Moments.of(torch.zeros(3, dtype=torch.float64)), RunningMeanStd(shape=(3,))
    for i in range(4):
        batch = 5 * Key.of(i).normal(7 + i, 3, dtype=torch.float64) + i
        ours = ours.update(batch)
        peer.update(batch.numpy())
    np.testing.assert_allclose(ours.mean.numpy(), peer.mean)
    np.testing.assert_allclose(ours.variance.numpy(), peer.var)
    assert ours.seen.item() == peer.count


def test_moments_in_parts_are_those_of_the_whole() -> None:
    values = Key.of(0).normal(1000, 2) * 3 + 5
    moments = Moments.of(values[0])
    for batch in values.split(130):
        moments = moments.update(batch)
    torch.testing.assert_close(moments.mean, values.mean(0), rtol=1e-4, atol=0)
    torch.testing.assert_close(moments.variance, values.var(0, correction=0), rtol=1e-4, atol=0)
    scaled = moments.normalise(values)
    torch.testing.assert_close(scaled.std(0), torch.ones(2), rtol=1e-3, atol=0)
    assert moments.normalise(values + 1e6).max().item() == 10


def test_nothing_seen_changes_nothing() -> None:
    values = Key.of(0).normal(10, 2)
    torch.testing.assert_close(Moments.of(values[0]).normalise(values), values)


def test_scaled_rewards_are_the_same_whatever_their_unit() -> None:
    reward, done = Key.of(0).uniform(50, 4), Key.of(1).uniform(50, 4) < 0.1
    small, large = (
        RewardScale.of(4, reward).update(reward * unit, done, 0.9).scale(reward * unit) for unit in (1.0, 500.0)
    )
    torch.testing.assert_close(small, large, rtol=1e-3, atol=0)
    assert (small > 0).all()


def test_reward_scale_is_that_of_discounted_returns() -> None:
    reward = torch.tensor([[1.0], [1.0], [4.0]])
    done = torch.tensor([[False], [True], [False]])
    scale = RewardScale.of(1, reward).update(reward, done, 0.5)
    assert scale.returns.tolist() == [4.0]
    torch.testing.assert_close(
        scale.moments.variance, torch.tensor([1.0, 1.5, 4.0]).var(correction=0), rtol=1e-3, atol=0
    )
