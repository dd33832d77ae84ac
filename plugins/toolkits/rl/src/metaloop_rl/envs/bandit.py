"""Multi-armed bandits: nothing to see, one of several arms to pull, rewards by chance (Robbins 1952)."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from metaloop import Key, UserError
from pydantic import Field
from torch import Tensor

from metaloop_rl.envs.env import TensorEnv


class Arms(NamedTuple):
    """What a bandit with arms that differ in their means alone is."""

    means: Tensor
    """`[*batch, arm]`: each arm's expected reward."""


class NoisyArms(NamedTuple):
    """What a bandit with Gaussian rewards is."""

    means: Tensor
    """`[*batch, arm]`: each arm's expected reward."""
    noise: Tensor
    """`[*batch]`: standard deviation of rewards."""


class Nothing(NamedTuple):
    """The physics of a bandit: nothing changes."""


Parameters = TypeVar("Parameters", Arms, NoisyArms)


class _Bandit(TensorEnv[Nothing, Parameters], Generic[Parameters]):
    """What all bandits share: an observation that is always 1, and episodes that end when time is up."""

    max_steps: int = Field(default=100, ge=1, description="pulls until an episode is truncated")
    arms: int = Field(default=10, ge=1, description="arms to choose from")

    @property
    def observation(self) -> tuple[int, ...]:
        """Always 1."""
        return (1,)

    @property
    def actions(self) -> int:
        """Which arm to pull."""
        return self.arms

    def start(self, parameters: Parameters, key: Key) -> Nothing:
        """Nothing to begin."""
        return Nothing()

    def advance(
        self, parameters: Parameters, physics: Nothing, action: Tensor, key: Key
    ) -> tuple[Nothing, Tensor, Tensor]:
        """Pull an arm."""
        mean = parameters.means.gather(-1, action[..., None])[..., 0]
        return physics, self.reward(parameters, mean, key), torch.zeros_like(mean, dtype=torch.bool)

    def reward(self, parameters: Parameters, mean: Tensor, key: Key) -> Tensor:
        """A reward `[*batch]` of arms with means `[*batch]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement reward")

    def observe(self, parameters: Parameters, physics: Nothing) -> Tensor:
        """`[*batch, 1]`."""
        return torch.ones_like(parameters.means[..., :1])


class BernoulliBandit(_Bandit[Arms]):
    """Arms that pay 1 or nothing, with probabilities drawn uniformly."""

    parameters_type: ClassVar[type[Any]] = Arms

    low: float = Field(default=0.0, ge=0, le=1, description="least probability to pay")
    high: float = Field(default=1.0, ge=0, le=1, description="greatest probability to pay")

    def model_post_init(self, context: Any) -> None:
        """Refuse a range that is none.

        Raises:
            UserError: `low` is above `high`.
        """
        if self.low > self.high:
            raise UserError(f"BernoulliBandit: low {self.low:g} is above high {self.high:g}")

    def draw(self, key: Key) -> Arms:
        """An arm's probability is uniform in [low, high)."""
        return Arms(key.uniform(self.arms, low=self.low, high=self.high))

    def reward(self, parameters: Arms, mean: Tensor, key: Key) -> Tensor:
        """1 with the arm's probability."""
        return (key.uniform(dtype=mean.dtype) < mean).to(mean.dtype)


class GaussianBandit(_Bandit[NoisyArms]):
    """Arms with normal rewards, whose means are normal too: the testbed of Sutton & Barto (2018), section 2.3."""

    parameters_type: ClassVar[type[Any]] = NoisyArms

    mean: float = Field(default=0.0, description="mean of the arms' means")
    spread: float = Field(default=1.0, ge=0, description="standard deviation of the arms' means")
    noise: float = Field(default=1.0, ge=0, description="standard deviation of an arm's rewards")

    def draw(self, key: Key) -> NoisyArms:
        """An arm's mean is normal."""
        means = self.mean + self.spread * key.normal(self.arms)
        return NoisyArms(means, torch.full_like(means[..., 0], self.noise))

    def reward(self, parameters: NoisyArms, mean: Tensor, key: Key) -> Tensor:
        """Normal around the arm's mean."""
        return mean + parameters.noise * key.normal(dtype=mean.dtype)
