"""Distributions of actions, and actors: networks that say which one for an observation.

Distributions are NamedTuples of tensors with any leading axes `[*batch]`, so they pass through `vmap` and checkpoints;
samples take one key per row and can be differentiated where the distribution is continuous.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from metaloop import Component, Incompatible, Key
from metaloop.specs import ControlSpec
from metaloop_basics.models import Mlp
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from metaloop_rl.models import OrthogonalMlp, Theta


class Categorical(NamedTuple):
    """One of several actions."""

    logits: Tensor
    """`[*batch, actions]`, not necessarily normalised."""

    @property
    def log_probabilities(self) -> Tensor:
        """`[*batch, actions]`."""
        return self.logits.log_softmax(-1)

    @property
    def mode(self) -> Tensor:
        """The likeliest action, `[*batch]` int64."""
        return self.logits.argmax(-1)

    def sample(self, key: Key) -> Tensor:
        """Actions `[*batch]` int64 by the Gumbel-max trick; `key` `[*batch]`."""
        uniform = key.uniform(self.logits.shape[-1], dtype=self.logits.dtype)
        return (self.logits - (-uniform.log()).log()).argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[*batch]`."""
        return self.log_probabilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """`[*batch]`, nats."""
        logs = self.log_probabilities
        return -(logs.exp() * logs).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other), `[*batch]`, nats."""
        logs = self.log_probabilities
        away = other.log_probabilities - logs
        # No term is below zero: near 0 nothing cancels. Beyond e^80 the first factor has long vanished.
        return (logs.exp() * (away.clamp(max=80.0).expm1() - away)).sum(-1)


class Gaussian(NamedTuple):
    """Independent normal distributions along each axis of an action; it may lie outside [-1, 1]."""

    mean: Tensor
    """`[*batch, actions]`."""
    log_std: Tensor
    """As `mean`, or something that broadcasts to it."""

    @property
    def mode(self) -> Tensor:
        """`[*batch, actions]`."""
        return self.mean

    def sample(self, key: Key) -> Tensor:
        """`[*batch, actions]`, differentiable; `key` `[*batch]`."""
        noise = key.normal(self.mean.shape[-1], dtype=self.mean.dtype)
        return self.mean + self.log_std.exp() * noise

    def log_probs(self, action: Tensor) -> Tensor:
        """Of each axis alone, `[*batch, actions]`."""
        away = (action - self.mean) * (-self.log_std).exp()
        return -0.5 * away.square() - self.log_std - 0.5 * math.log(2 * math.pi)

    def log_prob(self, action: Tensor) -> Tensor:
        """`[*batch]`."""
        return self.log_probs(action).sum(-1)

    def entropy(self) -> Tensor:
        """`[*batch]`, nats."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).expand_as(self.mean).sum(-1)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other), `[*batch]`, nats."""
        wider = 2 * (self.log_std - other.log_std)
        away = (self.mean - other.mean) * (-other.log_std).exp()
        return 0.5 * (away.square() + wider.expm1() - wider).sum(-1)


class Squashed(NamedTuple):
    """tanh of a Gaussian: actions in (-1, 1). It has no closed entropy.

    A sample close to the border has lost its digits, so its probability is asked for before squashing (`raw`).
    """

    raw: Gaussian
    """Before squashing."""

    @property
    def mode(self) -> Tensor:
        """tanh of the Gaussian's mean, `[*batch, actions]`."""
        return self.raw.mean.tanh()

    def sample(self, key: Key) -> Tensor:
        """`[*batch, actions]`, differentiable; `key` `[*batch]`."""
        return self.raw.sample(key).tanh()

    def log_probs_of_raw(self, raw: Tensor) -> Tensor:
        """Of the action `tanh(raw)`, each axis alone, `[*batch, actions]`."""
        slope = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))  # log(1 - tanh^2)
        return self.raw.log_probs(raw) - slope

    def log_prob(self, action: Tensor) -> Tensor:
        """`[*batch]`; actions within rounding of the border count as a little inside."""
        inside = 1.0 - torch.finfo(action.dtype).eps
        return self.log_probs_of_raw(action.clamp(-inside, inside).atanh()).sum(-1)

    def kl(self, other: Squashed) -> Tensor:
        """KL(self || other), `[*batch]`, nats: that of the Gaussians, as squashing can be undone."""
        return self.raw.kl(other.raw)


def flat_observations(spec: ControlSpec) -> int:
    """The width of observations that are vectors.

    Raises:
        Incompatible: they are not.
    """
    if len(spec.observation) != 1:
        raise Incompatible(
            f"this network takes observations that are vectors, these have the shape {spec.observation}: "
            "flatten them (wrapper FlattenObservation)"
        )
    return spec.observation[0]


def heads(net: Mlp, theta: Theta, observation: Tensor) -> Tensor:
    """A network's outputs `[*batch, outputs]` at observations `[*batch, width]`."""
    rows = observation.reshape(-1, observation.shape[-1])
    return net.outputs(theta, rows).reshape(*observation.shape[:-1], -1)


class Actor(Component):
    """Categorical over discrete actions; over continuous ones a Gaussian whose width is the same everywhere."""

    net: Mlp = Field(
        default=OrthogonalMlp(widths=(64, 64), activation="tanh", head_gain=0.01), description="the network"
    )
    log_std: float = Field(default=0.0, description="first log standard deviation of continuous actions")

    def init(self, spec: ControlSpec, key: Key) -> Theta:
        """First parameters: the network's, and `log_std` `[actions]` for continuous actions."""
        theta = self.net.init((flat_observations(spec),), spec.actions, key)
        if not spec.discrete:
            theta["log_std"] = torch.full((spec.actions,), self.log_std, device=key.device)
        return theta

    def __call__(self, theta: Theta, observation: Tensor) -> Categorical | Gaussian:
        """The distribution `[*batch]` for observations `[*batch, width]`."""
        outputs = heads(self.net, theta, observation)
        return Gaussian(outputs, theta["log_std"]) if "log_std" in theta else Categorical(outputs)


class SquashedActor(Component):
    """A squashed Gaussian whose width depends on the observation (Haarnoja et al. 2018)."""

    net: Mlp = Field(default=Mlp(widths=(64, 64)), description="the network")
    low: float = Field(default=-20.0, description="lowest log standard deviation")
    high: float = Field(default=2.0, description="highest log standard deviation")

    @classmethod
    def example(cls) -> Self:
        """A small network."""
        return cls(net=Mlp.example())

    def init(self, spec: ControlSpec, key: Key) -> Theta:
        """First parameters.

        Raises:
            Incompatible: actions are discrete.
        """
        if spec.discrete:
            raise Incompatible("a squashed Gaussian is for continuous actions, these are discrete")
        return self.net.init((flat_observations(spec),), 2 * spec.actions, key)

    def __call__(self, theta: Theta, observation: Tensor) -> Squashed:
        """The distribution `[*batch]` for observations `[*batch, width]`."""
        mean, log_std = heads(self.net, theta, observation).chunk(2, dim=-1)
        return Squashed(Gaussian(mean, log_std.clamp(self.low, self.high)))
