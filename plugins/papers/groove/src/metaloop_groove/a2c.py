"""Advantage actor-critic (Mnih et al. 2016) on many levels at once: the antagonist, and the scale of returns."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Learner, Outcome
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from metaloop_rl.envs.env import EnvState
from metaloop_rl.policies import Categorical
from metaloop_rl.returns import gae
from metaloop_rl.rollout import Policy, Trajectory, begin, rollout
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds
from pydantic import Field
from torch import Tensor

from metaloop_groove.episodes import mean_returns


class A2CState(NamedTuple):
    """An agent on each level, in the middle of its episodes."""

    actor: Tensor
    """`[task, state, action]`: logits."""
    critic: Tensor
    """`[task, state]`: values."""
    env: EnvState
    """`[task, worker]`."""
    seen: Tensor
    """`[task, worker]` int64: the states that the workers are in."""


class A2C(Learner[dict[str, Tensor], Worlds, A2CState]):
    """Tabular A2C from nothing on every level: one inner step is one update, fitness the mean return of episodes.

    Gradients are clipped by their norm, actor's and critic's apart, and descended as they are (SGD). There is nothing
    to meta-learn. With `steps=0` it is the random agent.
    """

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"

    steps: int = Field(default=250, ge=0, description="updates of a life")
    workers: int = Field(default=64, ge=1, description="environments of each level, side by side")
    segment: int = Field(default=20, ge=1, description="environment steps between updates")
    lr: float = Field(default=40.0, gt=0, description="of the actor")
    value_lr: float = Field(default=4.0, gt=0, description="of the critic")
    clip: float = Field(default=0.5, gt=0, description="largest norm of a gradient")
    entropy: float = Field(default=0.01, ge=0, description="weight of the policy's entropy")
    gamma: float = Field(default=0.99, ge=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimates")
    episodes: int = Field(default=64, ge=1, description="episodes that a life is judged by")

    @classmethod
    def example(cls) -> Self:
        """Two updates of two workers."""
        return cls(steps=2, workers=2, segment=3, episodes=2)

    def check(self, spec: Spec) -> None:
        """Accept tensor environments whose observation is the state's number."""
        if not isinstance(spec, TensorControlSpec) or spec.states is None or not spec.discrete:
            raise Incompatible(
                "groove/a2c keeps a table: it needs tensor environments whose observation is their state's number "
                "(rl/grid-world with view: index)"
            )

    def begin(self, theta: dict[str, Tensor], tasks: Worlds, keys: Key) -> A2CState:
        """Uniform policies, values of zero, new episodes."""
        states, n = tasks.env.states, len(keys)
        assert states is not None
        env, seen = begin(tasks, self.workers, keys)
        zeros = torch.zeros(n, states, tasks.env.actions, dtype=torch.get_default_dtype(), device=keys.device)
        return A2CState(zeros, zeros[..., 0].clone(), env, seen)

    def step(self, theta: dict[str, Tensor], state: A2CState, tasks: Worlds, clock: Clock, keys: Key) -> A2CState:
        """A segment of experience and one update of actor and critic."""
        happened, env, seen = rollout(tasks, state.env, state.seen, _acting(state.actor), keys, self.segment)
        actor, critic = self._descended(state, happened)
        return A2CState(actor, critic, env, seen)

    def _descended(self, state: A2CState, happened: Trajectory) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            actor, critic = (part.detach().requires_grad_() for part in (state.actor, state.critic))
            value = _at(critic, happened.observation)  # [time, task, worker]
            known = value.detach()
            after = _at(critic, happened.next_observation).detach()
            gain = gae(happened.reward, known, after, happened.terminated, happened.done, self.gamma, self.lam)
            policy = Categorical(_at(actor, happened.observation))
            played = policy.log_prob(happened.action) * _normalised(gain) + self.entropy * policy.entropy()
            loss = -played.mean((0, 2)).sum() + (value - (known + gain)).square().mean((0, 2)).sum()
            slopes = torch.autograd.grad(loss, (actor, critic))
        with torch.no_grad():
            return (
                actor.detach() - self.lr * _clipped(slopes[0], self.clip),
                critic.detach() - self.value_lr * _clipped(slopes[1], self.clip),
            )

    def evaluate(self, theta: dict[str, Tensor], state: A2CState, tasks: Worlds, keys: Key) -> Outcome:
        """Whole episodes under the policy as it is."""
        found = mean_returns(tasks, _acting(state.actor), self.episodes, keys)
        return outcome(fitness=found, metrics={"return": found})


def _at(table: Tensor, state: Tensor) -> Tensor:
    """Rows of tables `[task, state, ...]` for states `[..., task, worker]`."""
    return table[torch.arange(len(table), device=table.device)[:, None], state]


def _acting(actor: Tensor) -> Policy:
    return lambda seen, key: Categorical(_at(actor, seen)).sample(key)


def _normalised(gain: Tensor) -> Tensor:
    """Advantages `[time, task, worker]` with mean 0 and variance 1 on each level."""
    deviation, mean = torch.std_mean(gain, (0, 2), correction=0, keepdim=True)
    return (gain - mean) / (deviation + 1e-8)


def _clipped(slope: Tensor, largest: float) -> Tensor:
    """Gradients `[task, ...]` whose norm is at most `largest`, each task's for itself."""
    norm = slope.flatten(1).square().sum(1).sqrt().reshape(-1, *(1,) * (slope.ndim - 1))
    return slope * (largest / (norm + 1e-6)).clamp(max=1.0)
