"""Advantage actor-critic (Mnih et al. 2016) on many levels at once: the antagonist, and the scale of returns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Learner, Outcome
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from metaloop_basics.models import Mlp
from metaloop_rl.learners.lpg_agent import Heads, View, Weights
from metaloop_rl.policies import Categorical
from metaloop_rl.returns import gae
from metaloop_rl.rollout import Policy, Trajectory, begin, rollout
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds
from pydantic import Field
from torch import Tensor

from metaloop_groove.episodes import mean_returns


class A2CState(NamedTuple):
    """Agents in the middle of their episodes."""

    actor: Weights
    """Logits of actions."""
    critic: Weights
    """Values."""
    env: Any
    """`[task, worker]`."""
    seen: Tensor
    """`[task, worker, *observation]`."""


class A2C(Learner[dict[str, Tensor], Worlds, A2CState]):
    """A2C from scratch on every level: one inner step is one update, fitness the mean return of whole episodes.

    Actor and critic are what `rl/lpg` makes its agents of, with the same rates, and their gradients are clipped each
    for itself. There is nothing to meta-learn. With `steps=0` a table's agent is the random one.
    """

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"

    steps: int = Field(default=250, ge=0, description="updates of a life")
    workers: int = Field(default=64, ge=1, description="environments of each level, side by side")
    segment: int = Field(default=20, ge=1, description="environment steps between updates")
    heads: Heads = Field(default_factory=Heads, description="what actor and critic are made of")
    lr: float = Field(default=40.0, gt=0, description="of a table's actor")
    critic_lr: float = Field(default=4.0, gt=0, description="of a table's critic")
    entropy: float = Field(default=0.01, ge=0, description="weight of the policy's entropy")
    gamma: float = Field(default=0.99, ge=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimates")
    episodes: int = Field(default=64, ge=1, description="episodes that a life is judged by")

    @classmethod
    def example(cls) -> Self:
        """Two updates of two workers."""
        return cls(steps=2, workers=2, segment=3, episodes=2, heads=Heads(model=Mlp.example()))

    def check(self, spec: Spec) -> None:
        """Accept tensor environments with discrete actions."""
        if not isinstance(spec, TensorControlSpec) or not spec.discrete:
            raise Incompatible("groove/a2c acts in tensor environments with discrete actions")
        if self.heads.time_scale:
            raise Incompatible("groove/a2c does not see the time: heads.time_scale must be 0")

    def begin(self, theta: dict[str, Tensor], tasks: Worlds, keys: Key) -> A2CState:
        """First weights and new episodes."""
        spec, n = tasks.env.spec, len(keys)
        env, seen = begin(tasks, self.workers, keys)
        actor = self.heads.init(spec, spec.actions, n, keys.fold("actor"))
        return A2CState(actor, self.heads.init(spec, 1, n, keys.fold("critic")), env, seen)

    @torch.no_grad()
    def step(self, theta: dict[str, Tensor], state: A2CState, tasks: Worlds, clock: Clock, keys: Key) -> A2CState:
        """A segment of experience and one update."""
        happened, env, seen = rollout(tasks, state.env, state.seen, self.acting(state.actor), keys, self.segment)
        actor, critic = self.improved(state.actor, state.critic, happened)
        return A2CState(actor, critic, env, seen)

    def acting(self, actor: Weights) -> Policy:
        """The policy of each task's actor."""
        return lambda seen, key: Categorical(self.heads.outputs(actor.values, _view(seen))).sample(key)

    @torch.no_grad()
    def improved(self, actor: Weights, critic: Weights, happened: Trajectory) -> tuple[Weights, Weights]:
        """Actor and critic after one update on what `happened` `[time, task, worker]`."""
        acted = _view(_by_task(happened.observation))
        value, pull_value = self.heads.vjp(critic.values, acted)
        after = self.heads.outputs(critic.values, _view(_by_task(happened.next_observation)))
        shape = happened.reward.movedim(1, 0).shape
        known, then = (part.reshape(shape).movedim(1, 0) for part in (value, after))
        gain = _by_task(gae(happened.reward, known, then, happened.terminated, happened.done, self.gamma, self.lam))
        logits, pull = self.heads.vjp(actor.values, acted)
        with torch.enable_grad():
            logits = logits.requires_grad_()
            policy = Categorical(logits)
            gained = policy.log_prob(_by_task(happened.action)) * _normalised(gain) + self.entropy * policy.entropy()
            [slope] = torch.autograd.grad(-gained.mean(1).sum(), logits)
        return (
            self.heads.descend(actor, pull(slope), self.lr),
            self.heads.descend(critic, pull_value(-2.0 * gain[..., None] / gain.shape[1]), self.critic_lr),
        )

    @torch.no_grad()
    def evaluate(self, theta: dict[str, Tensor], state: A2CState, tasks: Worlds, keys: Key) -> Outcome:
        """Whole episodes under the policy as it is."""
        found = mean_returns(tasks, self.acting(state.actor), self.episodes, keys)
        return outcome(fitness=found, metrics={"return": found})


def _view(seen: Tensor) -> View:
    """Observations `[task, row, ...]` of agents that don't see the time."""
    return View(seen, torch.zeros(seen.shape[:2], dtype=torch.int64, device=seen.device))


def _by_task(part: Tensor) -> Tensor:
    """`[time, task, worker, ...]` as `[task, time * worker, ...]`."""
    return part.movedim(1, 0).flatten(1, 2)


def _normalised(gain: Tensor) -> Tensor:
    """Advantages `[task, row]` with mean 0 and variance 1 on each level."""
    deviation, mean = torch.std_mean(gain, 1, correction=0, keepdim=True)
    return (gain - mean) / (deviation + 1e-8)
