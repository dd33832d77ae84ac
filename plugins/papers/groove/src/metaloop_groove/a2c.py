"""Advantage actor-critic (Mnih et al. 2016) on many levels at once: the antagonist, and the scale of returns."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Learner, Outcome
from metaloop.outcome import Clock, outcome
from metaloop.specs import ControlSpec, Spec
from metaloop_basics.models import Mlp
from metaloop_rl.adam import Adam, clipped
from metaloop_rl.models import OrthogonalMlp, Theta, joined, part
from metaloop_rl.policies import Categorical
from metaloop_rl.returns import gae
from metaloop_rl.rollout import Policy, Trajectory, begin, rollout
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds
from pydantic import Field
from torch import Tensor
from torch.func import vmap

from metaloop_groove.episodes import mean_returns


class Agents(NamedTuple):
    """An actor and a critic for each task."""

    actor: Theta
    """Leaves `[task, ...]`; a table's `table` is `[task, state, action]`."""
    critic: Theta
    memory: tuple[Adam, ...]
    """Of the actor and of the critic, where they descend by Adam."""


class A2CState(NamedTuple):
    """Agents in the middle of their episodes."""

    agents: Agents
    env: object
    """`[task, worker]`."""
    seen: Tensor
    """`[task, worker, *observation]`."""


class A2C(Learner[Theta, Worlds, A2CState]):
    """A2C from its first weights on every level: one inner step is one update, fitness the mean return of episodes.

    Where an observation is a state's number, actor and critic are tables without a bias that begin at zero, descended
    by SGD; elsewhere networks, descended by Adam. Their gradients are clipped by their norms, each for itself. theta
    is the first weights. With `steps=0` a table's agent is the random one.
    """

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False

    steps: int = Field(default=250, ge=0, description="updates of a life")
    workers: int = Field(default=64, ge=1, description="environments of each level, side by side")
    segment: int = Field(default=20, ge=1, description="environment steps between updates")
    lr: float = Field(default=40.0, gt=0, description="of a table's actor")
    value_lr: float = Field(default=4.0, gt=0, description="of a table's critic")
    model: Mlp = Field(default=OrthogonalMlp(widths=(32,), head_gain=0.01), description="the networks, without tables")
    adam: float = Field(default=1e-3, gt=0, description="Adam's rate for networks")
    clip: float = Field(default=0.5, gt=0, description="largest norm of a gradient")
    entropy: float = Field(default=0.01, ge=0, description="weight of the policy's entropy")
    gamma: float = Field(default=0.99, ge=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimates")
    episodes: int = Field(default=64, ge=1, description="episodes that a life is judged by")

    @classmethod
    def example(cls) -> Self:
        """Two updates of two workers."""
        return cls(steps=2, workers=2, segment=3, episodes=2, model=Mlp.example())

    def check(self, spec: Spec) -> None:
        """Accept tensor environments with discrete actions."""
        if not isinstance(spec, TensorControlSpec) or not spec.discrete:
            raise Incompatible("groove/a2c acts in tensor environments with discrete actions")

    def init(self, spec: Spec, key: Key) -> Theta:
        """First weights: zeros for tables, `[state, outputs]`."""
        assert isinstance(spec, ControlSpec)
        if (states := getattr(spec, "states", None)) is not None:
            zeros = torch.zeros(states, spec.actions, dtype=torch.get_default_dtype(), device=key.device)
            return joined(actor={"table": zeros}, critic={"table": zeros[:, :1].clone()})
        actor, critic = (
            self.model.init(spec.observation, n, key.fold(who)) for who, n in (("actor", spec.actions), ("critic", 1))
        )
        return joined(actor=actor, critic=critic)

    def agents(self, theta: Theta, n: int) -> Agents:
        """As they are before their first update, for `n` tasks."""
        actor, critic = (
            {name: value.expand(n, *value.shape).clone() for name, value in part(theta, who).items()}
            for who in ("actor", "critic")
        )
        return Agents(actor, critic, () if "table" in actor else (vmap(Adam.of)(actor), vmap(Adam.of)(critic)))

    def outputs(self, weights: Theta, seen: Tensor) -> Tensor:
        """`[task, row, output]` of tables or networks `[task, ...]` for observations `[task, row, *observation]`."""
        if "table" in weights:
            return weights["table"].gather(1, seen[..., None].expand(-1, -1, weights["table"].shape[-1]))
        return self.model.outputs(weights, seen, each=True)

    def acting(self, actor: Theta) -> Policy:
        """The policy of each task's actor."""
        return lambda seen, key: Categorical(self.outputs(actor, seen)).sample(key)

    def improved(self, agents: Agents, happened: Trajectory) -> Agents:
        """One update of every task's actor and critic on what `happened` `[time, task, worker]`."""
        with torch.enable_grad():
            actor, critic = (
                {name: value.detach().requires_grad_() for name, value in weights.items()} for weights in agents[:2]
            )
            value = self._along(critic, happened.observation)[..., 0]
            known = value.detach()
            after = self._along(agents.critic, happened.next_observation)[..., 0]
            gain = gae(happened.reward, known, after, happened.terminated, happened.done, self.gamma, self.lam)
            policy = Categorical(self._along(actor, happened.observation))
            played = policy.log_prob(happened.action) * _normalised(gain) + self.entropy * policy.entropy()
            loss = -played.mean((0, 2)).sum() + (value - (known + gain)).square().mean((0, 2)).sum()
            slopes = iter(torch.autograd.grad(loss, (*actor.values(), *critic.values())))
        by_actor, by_critic = ({name: next(slopes) for name in weights} for weights in agents[:2])
        return self._descended(agents, _clipped(by_actor, self.clip), _clipped(by_critic, self.clip))

    def _along(self, weights: Theta, seen: Tensor) -> Tensor:
        """`outputs` for observations `[time, task, worker, *observation]`, `[time, task, worker, output]`."""
        rows = seen.movedim(1, 0).flatten(1, 2)
        found = self.outputs(weights, rows)
        return found.reshape(len(found), seen.shape[0], seen.shape[2], -1).movedim(1, 0)

    def _descended(self, agents: Agents, by_actor: Theta, by_critic: Theta) -> Agents:
        if not agents.memory:
            actor, critic = agents.actor["table"], agents.critic["table"]
            return Agents(
                {"table": actor - self.lr * by_actor["table"]},
                {"table": critic - self.value_lr * by_critic["table"]},
                (),
            )
        step = vmap(lambda memory, weights, slope: memory.descend(weights, slope, self.adam))
        actor_weights, first = step(agents.memory[0], agents.actor, by_actor)
        critic_weights, second = step(agents.memory[1], agents.critic, by_critic)
        return Agents(actor_weights, critic_weights, (first, second))

    def begin(self, theta: Theta, tasks: Worlds, keys: Key) -> A2CState:
        """First weights and new episodes."""
        env, seen = begin(tasks, self.workers, keys)
        return A2CState(self.agents(theta, len(keys)), env, seen)

    def step(self, theta: Theta, state: A2CState, tasks: Worlds, clock: Clock, keys: Key) -> A2CState:
        """A segment of experience and one update."""
        with torch.no_grad():
            policy = self.acting(state.agents.actor)
            happened, env, seen = rollout(tasks, state.env, state.seen, policy, keys, self.segment)
            return A2CState(self.improved(state.agents, happened), env, seen)

    def evaluate(self, theta: Theta, state: A2CState, tasks: Worlds, keys: Key) -> Outcome:
        """Whole episodes under the policy as it is."""
        found = mean_returns(tasks, self.acting(state.agents.actor), self.episodes, keys)
        return outcome(fitness=found, metrics={"return": found})


def _normalised(gain: Tensor) -> Tensor:
    """Advantages `[time, task, worker]` with mean 0 and variance 1 on each level."""
    deviation, mean = torch.std_mean(gain, (0, 2), correction=0, keepdim=True)
    return (gain - mean) / (deviation + 1e-8)


def _clipped(slope: Theta, largest: float) -> Theta:
    """Gradients `[task, ...]` whose global norm is at most `largest`, each task's for itself."""
    return vmap(lambda one: clipped(one, largest))(slope)
