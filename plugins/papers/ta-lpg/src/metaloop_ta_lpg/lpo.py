"""Learned Policy Optimisation (Lu et al. 2022): PPO's loop, with a drift that is meta-learned in clipping's place."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Outcome, PerTask, UserError, tree
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from metaloop_basics.models import Mlp
from metaloop_rl.adam import Adam, clipped
from metaloop_rl.models import Theta, drawn, joined, part
from metaloop_rl.policies import Actor, flat_observations, heads
from metaloop_rl.returns import gae
from metaloop_rl.rollout import begin, rollout
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds
from pydantic import Field, model_validator
from torch import Tensor
from torch.func import grad

from metaloop_ta_lpg.drift import DriftObjective


class LpoState(NamedTuple):
    """Between two iterations."""

    weights: Theta
    """Of the policy (`policy.`) and the value function (`value.`)."""
    adam: Adam
    env: Any
    seen: Tensor
    """`[copy, width]`."""
    reward: Tensor
    """Scalar: all rewards of the life so far."""
    episodes: Tensor
    """Scalar: episodes begun so far."""


class Batch(NamedTuple):
    """What an iteration learns from, `[rows, ...]`."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    """Of the policy that acted."""
    advantage: Tensor
    target: Tensor


class Lpo(PerTask[Theta, Worlds, LpoState]):
    """An agent's training with a learned drift; theta is the drift, a life is the training.

    Each inner step acts for `horizon` steps in `copies` environments and takes epochs of minibatches of Adam on

        -mean(r A - drift) + value_weight mean((V - target)^2) - entropy H(pi).

    Fitness is the mean return over the whole training: all rewards by all episodes begun. With f = 0 and a drift that
    begins from PPO it is PPO.
    """

    differentiable: ClassVar[bool] = False

    steps: int = Field(default=16, ge=1, description="iterations N")
    copies: int = Field(default=16, ge=1, description="environments side by side")
    horizon: int = Field(default=32, ge=1, description="environment steps of an iteration in each of them")
    epochs: int = Field(default=4, ge=1, description="passes over an iteration's batch")
    minibatches: int = Field(default=4, ge=1, description="parts of a pass")
    drift: DriftObjective = Field(default_factory=DriftObjective, description="what is learned")
    lr: float = Field(default=1e-3, ge=0, description="Adam's")
    clip: float = Field(default=0.5, gt=0, description="largest norm of a gradient")
    value_weight: float = Field(default=0.25, ge=0, description="of the values' error")
    entropy: float = Field(default=0.01, ge=0, description="weight of the policy's entropy")
    gamma: float = Field(default=0.99, ge=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimates")
    actor: Actor = Field(default=Actor(net=Mlp(widths=(32,), activation="tanh")), description="the policy")
    critic: Mlp = Field(default=Mlp(widths=(32,), activation="tanh"), description="the value function")

    @classmethod
    def example(cls) -> Self:
        """Two small iterations."""
        small = Mlp.example()
        return cls(
            steps=2,
            copies=2,
            horizon=4,
            epochs=1,
            minibatches=2,
            drift=DriftObjective.example(),
            actor=Actor(net=small),
            critic=small,
        )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse batches that do not divide.

        Raises:
            UserError: minibatches would differ in size.
        """
        rows = self.copies * self.horizon
        if rows % self.minibatches:
            raise UserError(f"Lpo.minibatches: {rows} environment steps are no {self.minibatches} equal parts")
        return self

    def check(self, spec: Spec) -> None:
        """Accept tensor environments whose observations are vectors."""
        if not isinstance(spec, TensorControlSpec):
            raise Incompatible("ta-lpg/lpo acts in tensor environments (TensorControlSpec)")
        flat_observations(spec)

    def init(self, spec: Spec, key: Key) -> Theta:
        """The first drift."""
        return self.drift.init(key)

    def lifetime(self, tasks: Worlds) -> int | Tensor:
        """As the task says, or `steps`."""
        return tasks.lifetime if isinstance(tasks.lifetime, Tensor) else self.steps

    def begin_one(self, theta: Theta, task: Worlds, key: Key) -> LpoState:
        """First weights, those of a policy near uniform, and environments at their start."""
        spec = task.env.spec
        width = flat_observations(spec)
        policy = drawn(self.actor.net, width, spec.actions, key.fold("policy"), head_scale=0.01)
        if not spec.discrete:
            policy["log_std"] = torch.full((spec.actions,), self.actor.log_std, device=key.device)
        weights = joined(policy=policy, value=drawn(self.critic, width, 1, key.fold("value")))
        env, seen = begin(task, self.copies, key.fold("environment"))
        zero = seen.new_zeros(())
        return LpoState(weights, Adam.of(weights), env, seen, zero, zero + self.copies)

    def step_one(self, theta: Theta, state: LpoState, task: Worlds, clock: Clock, key: Key) -> LpoState:
        """One iteration."""
        policy = part(state.weights, "policy")

        def act(seen: Tensor, keys: Key) -> Tensor:
            return self.actor(policy, seen).sample(keys)

        path, env, seen = rollout(task, state.env, state.seen, act, key.fold("rollout"), self.horizon)
        value = self._value(state.weights, path.observation)
        after = self._value(state.weights, path.next_observation)
        gain = gae(path.reward, value, after, path.terminated, path.done, self.gamma, self.lam)
        log_prob = self.actor(policy, path.observation).log_prob(path.action)
        batch = Batch(path.observation, path.action, log_prob, gain, gain + value)
        batch = Batch(*(leaf.flatten(0, 1) for leaf in batch))  # [time, copy, ...] to [row, ...]
        slope, weights, adam = grad(self.loss), state.weights, state.adam
        fraction = clock.step.to(gain.dtype) / clock.lifetime
        for epoch in range(self.epochs):
            order = key.fold("epoch", epoch).permutation(self.copies * self.horizon)
            for rows in order.chunk(self.minibatches):
                down = slope(weights, theta, tree.index(batch, rows), fraction)
                weights, adam = adam.descend(weights, clipped(down, self.clip), self.lr, eps=1e-5)
        episodes = state.episodes + path.done.to(gain.dtype).sum()
        return LpoState(weights, adam, env, seen, state.reward + path.reward.sum(), episodes)

    def loss(self, weights: Theta, theta: Theta, batch: Batch, fraction: Tensor) -> Tensor:
        """What one step of Adam descends, on a minibatch at n/N."""
        policy = self.actor(part(weights, "policy"), batch.observation)
        log_ratio = policy.log_prob(batch.action) - batch.log_prob
        deviation, mean = torch.std_mean(batch.advantage, 0)
        advantage = (batch.advantage - mean) / (deviation + 1e-8)
        gained = log_ratio.exp() * advantage - self.drift(theta, log_ratio, advantage, fraction)
        error = (self._value(weights, batch.observation) - batch.target).square()
        return -gained.mean() + self.value_weight * error.mean() - self.entropy * policy.entropy().mean()

    def _value(self, weights: Theta, observation: Tensor) -> Tensor:
        return heads(self.critic, part(weights, "value"), observation)[..., 0]

    def evaluate_one(self, theta: Theta, state: LpoState, task: Worlds, key: Key) -> Outcome:
        """The mean return over the training so far."""
        found = state.reward / state.episodes
        return outcome(fitness=found, metrics={"return": found})
