"""Off-policy MDPO: soft actor-critic with the last policy for a reference instead of the uniform one."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import torch
from metaloop import Component, Incompatible, Key, Outcome, PerObject, PerTask, UserError, engine, tree
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from metaloop_basics.models import Mlp
from metaloop_rl.adam import Adam
from metaloop_rl.episodes import Episodes
from metaloop_rl.models import Theta, joined, part
from metaloop_rl.policies import SquashedActor, flat_observations, heads
from metaloop_rl.replay import Replay
from metaloop_rl.rollout import Task, act, begin, rollout
from metaloop_rl.specs import GymControlSpec, TensorControlSpec
from metaloop_rl.tasks import GymTask, Worlds
from pydantic import Field, model_validator
from torch import Tensor

from metaloop_mdpo.mirror import Loss, log_q, slope_under_vmap

MEASURED = ("policy_loss", "value_loss", "q_loss", "kl")


class Transition(NamedTuple):
    """Rows of the replay buffer, `[rows, ...]`."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor
    """1 where nothing comes after."""


class OffPolicyState(NamedTuple):
    """Between two iterations."""

    theta: Theta
    """Policy, value function and both Q functions (leaves `[2, ...]`), by the names of the meta-parameters."""
    old: Theta
    """The policy pi_k that the KL term refers to."""
    target: Theta
    """The slowly following value function."""
    adam: Adam
    environment: Any
    """The environments' state; for Gymnasium's the live copies."""
    observation: Tensor
    """`[copies, width]`."""
    replay: Replay
    episodes: Episodes
    measured: dict[str, Tensor]
    """Of the last gradient step."""


class OffPolicyDescent(Component):
    """The algorithm for one task, whichever kind its environments are.

    One inner step is one iteration: pi_k is copied, then m environment steps with a gradient step each.
    """

    kind: ClassVar[type[Spec]]

    steps: int = Field(default=20, ge=1, description="iterations K")
    sgd_steps: int = Field(default=1000, ge=1, description="m: environment and gradient steps of an iteration")
    copies: int = Field(default=1, ge=1, description="environments side by side; as many gradient steps a step of all")
    warmup: int = Field(default=10_000, ge=1, description="environment steps at random before the first iteration")
    capacity: int = Field(default=1_000_000, ge=1, description="rows that the replay buffer holds")
    rows: int = Field(default=256, ge=1, description="rows of a gradient step")
    lr: float = Field(default=3e-4, ge=0, description="Adam's, of all networks")
    gamma: float = Field(default=0.99, gt=0, le=1, description="discount")
    tau: float = Field(default=0.005, gt=0, le=1, description="how fast the target value function follows")
    entropy: float = Field(default=0.2, ge=0, description="lambda: weight of the entropy")
    klcoeff: float = Field(default=1.0, ge=0, description="c: the step size of mirror descent is 1 / (c - lambda)")
    q: float = Field(default=1.0, ge=1, le=2, description="Tsallis index of divergence and entropy; 1: KL")
    decay: float = Field(
        default=1e-3, ge=0, description="weight of squared means and log deviations in the policy's loss"
    )
    mean_actions: bool = Field(
        default=False, description="act by the policy's mean after the warm-up, as the authors' code does"
    )
    actor: SquashedActor = Field(default=SquashedActor(), description="the policy")
    critic: Mlp = Field(default=Mlp(widths=(64, 64)), description="the value function and each Q function")
    window: int = Field(default=20, ge=1, description="fitness is the mean return of so many last episodes")

    @classmethod
    def example(cls) -> Self:
        """Two small iterations."""
        return cls(
            steps=2, sgd_steps=4, copies=2, warmup=6, capacity=20, rows=5, actor=SquashedActor.example(),
            critic=Mlp.example(),
        )  # fmt: skip

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse steps that do not divide, and an order of coefficients that is no step.

        Raises:
            UserError: the copies can't share steps equally, or the step size would be negative.
        """
        for name in ("sgd_steps", "warmup"):
            if getattr(self, name) % self.copies:
                raise UserError(f"{name}: {getattr(self, name)} steps can't be shared equally by copies={self.copies}")
        if self.klcoeff < self.entropy:
            raise UserError(f"klcoeff: c - lambda is 1 / t, so klcoeff must be at least entropy={self.entropy:g}")
        if max(self.warmup, self.copies) > self.capacity:
            raise UserError(f"capacity: {self.capacity} rows do not hold a warm-up of {self.warmup} steps")
        return self

    def slope(self, loss: Loss, theta: Theta) -> tuple[Theta, Any]:
        """The gradient of a loss, and what else it gives."""
        return slope_under_vmap(loss, theta)

    def check(self, spec: Spec) -> None:
        """Accept environments whose observations are vectors and whose actions are continuous.

        Raises:
            Incompatible: the tasks are no such ones.
        """
        if not isinstance(spec, self.kind):
            raise Incompatible(f"{type(self).__name__} acts in environments ({self.kind.__name__})")
        flat_observations(spec)  # type: ignore[arg-type]
        if spec.discrete:  # type: ignore[attr-defined]
            raise Incompatible(
                f"{type(self).__name__} needs continuous actions, these are discrete: use mdpo/on-policy"
            )

    def init(self, spec: Any, key: Key) -> Theta:
        """The first policy, value function and Q functions."""
        width = flat_observations(spec)
        q = [self.critic.init((width + spec.actions,), 1, key.fold("q", i)) for i in range(2)]
        value = self.critic.init((width,), 1, key.fold("value"))
        return joined(policy=self.actor.init(spec, key.fold("policy")), value=value, q=tree.stack(q))

    def begin_one(self, theta: Theta, task: Task, key: Key) -> OffPolicyState:
        """Environments after the random warm-up, which fills the replay buffer."""
        environment, observation = begin(task, self.copies, key.fold("environment"))
        actions = theta["policy.head.weight"].shape[0] // 2

        def anywhere(seen: Tensor, keys: Key) -> Tensor:
            return keys.uniform(actions, low=-1.0, high=1.0, dtype=seen.dtype)

        path, environment, observation = rollout(
            task, environment, observation, anywhere, key.fold("warm-up"), self.warmup // self.copies
        )
        reward = path.reward
        rows = Transition(path.observation, path.action, reward, path.next_observation, path.terminated.to(reward))
        rows = Transition(*(leaf.flatten(0, 1) for leaf in rows))
        zero = reward.new_zeros(())
        return OffPolicyState(
            dict(theta),
            part(theta, "policy"),
            part(theta, "value"),
            Adam.of(theta),
            environment,
            observation,
            Replay.of(self.capacity, tree.index(rows, 0)).add(rows),
            Episodes.of(self.copies, self.window, reward).update(reward, path.done),
            {name: zero.clone() for name in MEASURED},
        )

    def step_one(self, theta: Theta, state: OffPolicyState, task: Task, clock: Clock, key: Key) -> OffPolicyState:
        """One iteration; pi_k is the policy as it is now."""
        state = state._replace(old=part(state.theta, "policy"))
        for i in range(self.sgd_steps // self.copies):
            now = key.fold(i)
            state = self._acted(state, task, now)
            for j in range(self.copies):
                state = self._learned(state, now.fold("learn", j))
        return state

    def evaluate_one(self, theta: Theta, state: OffPolicyState, task: Task, key: Key) -> Outcome:
        """The mean return of the last episodes that ended in training."""
        episodes = state.episodes
        return outcome(
            fitness=episodes.mean_return,
            metrics={"length": episodes.mean_length, "episodes": episodes.ended.to(episodes.returns.dtype)}
            | state.measured,
        )

    def _acted(self, state: OffPolicyState, task: Task, key: Key) -> OffPolicyState:
        distribution = self.actor(part(state.theta, "policy"), state.observation)
        action = distribution.mode if self.mean_actions else distribution.sample(key.fold("policy").split(self.copies))
        step = act(task, state.environment, action, key.fold("environment"))
        rows = Transition(
            state.observation, action, step.reward, step.final_observation, step.terminated.to(step.reward)
        )
        add = state.replay.add if isinstance(task, Worlds) else state.replay.add_
        return state._replace(
            environment=step.state,
            observation=step.observation,
            replay=add(rows),
            episodes=state.episodes.update(step.reward[None], step.done[None]),
        )

    def _learned(self, state: OffPolicyState, key: Key) -> OffPolicyState:
        """One step of Adam on all losses; each network's is apart from the others'."""
        batch: Transition = state.replay.sample(key.fold("rows"), self.rows)
        keys = key.fold("action").split(self.rows)

        def loss(theta: Theta) -> tuple[Tensor, dict[str, Tensor]]:
            losses = self.losses(theta, state.old, state.target, batch, keys)
            return losses["policy_loss"] + losses["value_loss"] + losses["q_loss"], tree.detach(losses)

        gradient, measured = self.slope(loss, state.theta)
        theta, adam = state.adam.descend(state.theta, gradient, self.lr)
        value = part(theta, "value")
        target = {name: old.lerp(value[name], self.tau) for name, old in state.target.items()}
        return state._replace(theta=theta, adam=adam, target=target, measured=measured)

    def losses(self, theta: Theta, old: Theta, target: Theta, batch: Transition, keys: Key) -> dict[str, Tensor]:
        """Losses of the policy, the value function and the Q functions, and the KL to pi_k.

        Args:
            theta: all networks.
            old: the policy pi_k.
            target: the target value function.
            batch: `[rows, ...]`.
            keys: of the policy's actions, `[rows]`.
        """
        policy, value, q = (part(theta, name) for name in ("policy", "value", "q"))
        now, before = self.actor(policy, batch.observation), self.actor(old, batch.observation)
        raw = now.raw.sample(keys)
        log_pi = log_q(now.log_probs_of_raw(raw), self.q)
        log_old = log_q(before.log_probs_of_raw(raw), self.q)
        q_pi = self._q(tree.detach(q), batch.observation, raw.tanh())
        kept = self.decay * (now.raw.mean.square().mean() + now.raw.log_std.square().mean())
        policy_loss = (self.klcoeff * log_pi + self.q * (self.entropy - self.klcoeff) * log_old - q_pi[0]).mean()
        soft = (q_pi.amin(0) - self.entropy * log_pi).detach()
        after = heads(self.critic, target, batch.next_observation).squeeze(-1)
        wanted = batch.reward + self.gamma * (1 - batch.terminated) * after
        value_error = heads(self.critic, value, batch.observation).squeeze(-1) - soft
        q_error = self._q(q, batch.observation, batch.action) - wanted
        return {
            "policy_loss": policy_loss + kept,
            "value_loss": 0.5 * value_error.square().mean(),
            "q_loss": 0.5 * q_error.square().mean(-1).sum(),
            "kl": now.kl(before).mean(),
        }

    def _q(self, q: Theta, observation: Tensor, action: Tensor) -> Tensor:
        """Both Q functions, `[2, rows]`."""
        pairs = torch.cat([observation, action], dim=-1)
        return self.critic.outputs(q, pairs.expand(2, *pairs.shape), each=True).squeeze(-1)


class OffPolicy(OffPolicyDescent, PerTask[Theta, Worlds, OffPolicyState]):
    """Off-policy MDPO in tensor environments: all tasks in one batch."""

    kind: ClassVar[type[Spec]] = TensorControlSpec
    differentiable: ClassVar[bool] = False

    def adapted(self, theta: Theta, state: OffPolicyState) -> Theta:
        """All networks after training, leaves `[task, ...]`."""
        return state.theta


class OffPolicyGym(OffPolicyDescent, PerObject[Theta, GymTask, OffPolicyState]):
    """Off-policy MDPO in Gymnasium's environments."""

    kind: ClassVar[type[Spec]] = GymControlSpec

    def slope(self, loss: Loss, theta: Theta) -> tuple[Theta, Any]:
        """As the base, where no `vmap` is."""
        return engine.slope(loss, theta)

    def adapted(self, theta: Theta, state: list[OffPolicyState]) -> Theta:
        """All networks after training, leaves `[task, ...]`."""
        return tree.stack([each.theta for each in state])
