"""Running means and variances as explicit state: what a policy sees and what it is paid, on a common scale."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaloop_rl.returns import running


class Moments(NamedTuple):
    """Mean and variance of everything seen."""

    seen: Tensor
    """Scalar: how many values, and the weight of what was assumed before."""
    mean: Tensor
    """`[*shape]`."""
    variance: Tensor
    """`[*shape]`, of the population."""

    @classmethod
    def of(cls, like: Tensor) -> Moments:
        """Before anything was seen: mean 0, variance 1, for values of the shape of `like`."""
        return cls(torch.full_like(like.sum(), 1e-4), torch.zeros_like(like), torch.ones_like(like))

    def update(self, values: Tensor) -> Moments:
        """Merge values `[n, *shape]` (Chan et al. 1979)."""
        n, mean = values.shape[0], values.mean(0)
        total, away = self.seen + n, mean - self.mean
        squares = self.variance * self.seen + values.var(0, correction=0) * n
        squares = squares + away.square() * self.seen * n / total
        return Moments(total, self.mean + away * n / total, squares / total)

    def normalise(self, values: Tensor, clip: float = 10.0) -> Tensor:
        """Values `[..., *shape]` with mean 0 and variance 1, within `clip` of zero."""
        return ((values - self.mean) * (self.variance + 1e-8).rsqrt()).clamp(-clip, clip)


class RewardScale(NamedTuple):
    """Rewards over the standard deviation of discounted returns so far (Engstrom et al. 2020, section 2)."""

    moments: Moments
    """Of discounted returns, scalar."""
    returns: Tensor
    """`[n]`: of the running episodes."""

    @classmethod
    def of(cls, n: int, like: Tensor) -> RewardScale:
        """Before anything was seen, for `n` environments, with the type and device of `like`."""
        return cls(Moments.of(like.new_zeros(())), like.new_zeros(n))

    def update(self, reward: Tensor, done: Tensor, gamma: float) -> RewardScale:
        """Merge a trajectory's rewards `[time, n]`."""
        sums, after = running(reward, done, self.returns, gamma)
        return RewardScale(self.moments.update(sums.flatten()), after)

    def scale(self, reward: Tensor, clip: float = 10.0) -> Tensor:
        """Scaled rewards, within `clip` of zero; their mean is left where it is."""
        return (reward * (self.moments.variance + 1e-8).rsqrt()).clamp(-clip, clip)
