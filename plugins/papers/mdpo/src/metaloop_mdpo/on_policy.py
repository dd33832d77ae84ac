"""On-policy MDPO: mirror descent on batches of the current policy, each solved by m steps of Adam."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import torch
from metaloop import Component, Incompatible, Key, Outcome, PerObject, PerTask, UserError, engine, tree
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from metaloop_basics.models import Mlp
from metaloop_rl.adam import Adam, clipped
from metaloop_rl.episodes import Episodes
from metaloop_rl.models import OrthogonalMlp, Theta, joined, part
from metaloop_rl.normalisation import Moments, RewardScale
from metaloop_rl.policies import Actor, flat_observations, heads
from metaloop_rl.returns import gae
from metaloop_rl.rollout import Task, Trajectory, begin, rollout
from metaloop_rl.specs import GymControlSpec, TensorControlSpec
from metaloop_rl.tasks import GymTask, Worlds
from pydantic import Field, model_validator
from torch import Tensor

from metaloop_mdpo.mirror import Loss, annealed, psi, slope_under_vmap, standardised

MEASURED = ("kl", "t", "entropy", "value_loss")


class OnPolicyState(NamedTuple):
    """Between two iterations."""

    theta: Theta
    """Policy and value function, by the names of the meta-parameters."""
    policy_adam: Adam
    value_adam: Adam
    environment: Any
    """The environments' state; for Gymnasium's the live copies."""
    observation: Tensor
    """`[copies, width]`."""
    seen: Moments
    """Of observations."""
    paid: RewardScale
    episodes: Episodes
    measured: dict[str, Tensor]
    """Of the last iteration."""


class Batch(NamedTuple):
    """What one iteration learns from, `[rows, ...]`."""

    observation: Tensor
    """As the policy saw it."""
    action: Tensor
    advantage: Tensor
    """Standardised."""
    value: Tensor
    """Of the value function before the iteration."""
    target: Tensor
    """The TD(lambda) return."""


class MirrorDescent(Component):
    """The algorithm for one task, whichever kind its environments are."""

    kind: ClassVar[type[Spec]]

    steps: int = Field(default=50, ge=1, description="iterations K")
    batch: int = Field(default=2048, ge=2, description="environment steps of an iteration, T, over all copies")
    copies: int = Field(default=8, ge=1, description="environments side by side")
    sgd_steps: int = Field(default=10, ge=1, description="m: steps of Adam on the whole batch in each iteration")
    t: float | None = Field(default=None, gt=0, description="step size of mirror descent; None: annealed from 1 to 0")
    lr: float = Field(default=3e-4, ge=0, description="Adam's, of the policy")
    value_lr: float = Field(default=3e-4, ge=0, description="Adam's, of the value function")
    anneal_lr: bool = Field(default=False, description="let both learning rates fall to zero over the iterations")
    clip: float = Field(default=0.5, gt=0, description="largest norm of a gradient")
    gamma: float = Field(default=0.99, gt=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of advantage estimates")
    value_epochs: int = Field(default=5, ge=1, description="epochs of the value function in each iteration")
    value_batch: int = Field(default=128, ge=1, description="rows of its minibatches")
    value_clip: float | None = Field(default=0.2, gt=0, description="how far a value's error may usefully move it")
    normalise_observations: bool = Field(default=True, description="by running means and variances")
    normalise_rewards: bool = Field(default=True, description="by the running deviation of discounted returns")
    actor: Actor = Field(default=Actor(), description="the policy")
    critic: Mlp = Field(default=OrthogonalMlp(widths=(64, 64), activation="tanh"), description="the value function")
    window: int = Field(default=20, ge=1, description="fitness is the mean return of so many last episodes")

    @classmethod
    def example(cls) -> Self:
        """Two small iterations."""
        small = OrthogonalMlp.example()
        return cls(steps=2, batch=24, copies=3, sgd_steps=2, value_epochs=1, actor=Actor(net=small), critic=small)

    @classmethod
    def minimal(cls, **fields: Any) -> Self:
        """The paper's 'minimal' form: no normalisation, no GAE, no clipping of values, plain first weights."""
        net = Mlp(widths=(64, 64), activation="tanh")
        plain = {"normalise_observations": False, "normalise_rewards": False, "lam": 1.0, "value_clip": None}
        return cls(**{**plain, "actor": Actor(net=net), "critic": net, **fields})

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse batches that do not divide.

        Raises:
            UserError: the copies can't share an iteration's steps equally.
        """
        if self.batch % self.copies:
            raise UserError(f"batch: {self.batch} steps can't be shared equally by copies={self.copies}")
        return self

    def slope(self, loss: Loss, theta: Theta) -> tuple[Theta, Any]:
        """The gradient of a loss, and what else it gives."""
        return slope_under_vmap(loss, theta)

    def check(self, spec: Spec) -> None:
        """Accept environments whose observations are vectors.

        Raises:
            Incompatible: the tasks are none, or observations are images.
        """
        if not isinstance(spec, self.kind):
            raise Incompatible(f"{type(self).__name__} acts in environments ({self.kind.__name__})")
        flat_observations(spec)  # type: ignore[arg-type]

    def init(self, spec: Any, key: Key) -> Theta:
        """The first policy and value function."""
        value = self.critic.init((flat_observations(spec),), 1, key.fold("value"))
        return joined(policy=self.actor.init(spec, key.fold("policy")), value=value)

    def begin_one(self, theta: Theta, task: Task, key: Key) -> OnPolicyState:
        """Environments at their start, nothing seen yet."""
        environment, observation = begin(task, self.copies, key.fold("environment"))
        policy, value = part(theta, "policy"), part(theta, "value")
        zero = observation.new_zeros(())
        return OnPolicyState(
            dict(theta),
            Adam.of(policy),
            Adam.of(value),
            environment,
            observation,
            Moments.of(torch.zeros_like(observation[0])),
            RewardScale.of(self.copies, observation),
            Episodes.of(self.copies, self.window, observation),
            {name: zero.clone() for name in MEASURED},
        )

    def step_one(self, theta: Theta, state: OnPolicyState, task: Task, clock: Clock, key: Key) -> OnPolicyState:
        """One iteration: T steps under pi_k, m steps on Psi, epochs of the value function."""
        policy, value = part(state.theta, "policy"), part(state.theta, "value")

        def act(observation: Tensor, keys: Key) -> Tensor:
            return self.actor(policy, self._seen(state.seen, observation)).sample(keys)

        path, environment, observation = rollout(
            task, state.environment, state.observation, act, key.fold("rollout"), self.batch // self.copies
        )
        paid = state.paid.update(path.reward, path.done, self.gamma)
        batch = self._batch(state, paid, value, path)
        t = annealed(clock.step, clock.lifetime) if self.t is None else torch.full_like(batch.value[0], self.t)
        fade = 1 - clock.step / clock.lifetime if self.anneal_lr else 1.0
        policy, policy_adam, measured = self._improve(policy, state.policy_adam, batch, t, self.lr * fade)
        value, value_adam, value_loss = self._fit(
            value, state.value_adam, batch, self.value_lr * fade, key.fold("value")
        )
        return OnPolicyState(
            joined(policy=policy, value=value),
            policy_adam,
            value_adam,
            environment,
            observation,
            state.seen.update(path.observation.flatten(0, 1)),
            paid,
            state.episodes.update(path.reward, path.done),
            {**measured, "value_loss": value_loss},
        )

    def evaluate_one(self, theta: Theta, state: OnPolicyState, task: Task, key: Key) -> Outcome:
        """The mean return of the last episodes that ended in training, as policies act there: at random."""
        episodes = state.episodes
        return outcome(
            fitness=episodes.mean_return,
            metrics={"length": episodes.mean_length, "episodes": episodes.ended.to(episodes.returns.dtype)}
            | state.measured,
        )

    def _seen(self, seen: Moments, observation: Tensor) -> Tensor:
        return seen.normalise(observation) if self.normalise_observations else observation

    def _value(self, value: Theta, observation: Tensor) -> Tensor:
        return heads(self.critic, value, observation).squeeze(-1)

    def _batch(self, state: OnPolicyState, paid: RewardScale, value: Theta, path: Trajectory) -> Batch:
        observation = self._seen(state.seen, path.observation)
        now = self._value(value, observation)
        after = self._value(value, self._seen(state.seen, path.next_observation))
        reward = paid.scale(path.reward) if self.normalise_rewards else path.reward
        advantage = gae(reward, now, after, path.terminated, path.done, self.gamma, self.lam)
        rows = Batch(observation, path.action, advantage, now, now + advantage)
        rows = Batch(*(leaf.flatten(0, 1) for leaf in rows))  # [time, copy, ...] to [row, ...]
        return rows._replace(advantage=standardised(rows.advantage))

    def _improve(
        self, policy: Theta, adam: Adam, batch: Batch, t: Tensor, lr: Tensor | float
    ) -> tuple[Theta, Adam, dict[str, Tensor]]:
        """m steps of Adam on -Psi over the whole batch; the gradient of the first one's KL is zero."""
        loss, old = self.loss(policy, batch, t), self.actor(policy, batch.observation)
        for _ in range(self.sgd_steps):
            gradient, _ = self.slope(lambda theta: (loss(theta), ()), policy)
            policy, adam = adam.descend(policy, clipped(gradient, self.clip), lr, eps=1e-5)
        new = self.actor(policy, batch.observation)
        kl = new.kl(old).mean()  # type: ignore[arg-type]
        return policy, adam, {"kl": kl, "t": t.to(kl), "entropy": new.entropy().mean()}

    def loss(self, policy: Theta, batch: Batch, t: Tensor | float) -> Any:
        """-Psi at pi_k = `policy`, a function of the new policy's parameters."""
        old = self.actor(policy, batch.observation)
        log_old = old.log_prob(batch.action)

        def of(theta: Theta) -> Tensor:
            new = self.actor(theta, batch.observation)
            log_ratio = new.log_prob(batch.action) - log_old
            return -psi(log_ratio, batch.advantage, new.kl(old), t)  # type: ignore[arg-type]

        return of

    def _fit(self, value: Theta, adam: Adam, batch: Batch, lr: Tensor | float, key: Key) -> tuple[Theta, Adam, Tensor]:
        """Epochs of minibatches on the larger one of clipped and unclipped squared errors."""
        loss = torch.zeros_like(batch.value[0])
        for epoch in range(self.value_epochs):
            for rows in torch.split(key.fold(epoch).permutation(self.batch), self.value_batch):
                gradient, loss = self.slope(partial(self._value_loss, tree.index(batch, rows)), value)
                value, adam = adam.descend(value, clipped(gradient, self.clip), lr, eps=1e-5)
        return value, adam, loss

    def _value_loss(self, batch: Batch, value: Theta) -> tuple[Tensor, Tensor]:
        """The loss, twice: one of them is cut from the graph."""
        now = self._value(value, batch.observation)
        error = (now - batch.target).square()
        if self.value_clip is not None:
            near = batch.value + (now - batch.value).clamp(-self.value_clip, self.value_clip)
            error = torch.maximum(error, (near - batch.target).square())
        loss = 0.5 * error.mean()
        return loss, loss


class OnPolicy(MirrorDescent, PerTask[Theta, Worlds, OnPolicyState]):
    """On-policy MDPO in tensor environments: all tasks in one batch."""

    kind: ClassVar[type[Spec]] = TensorControlSpec
    differentiable: ClassVar[bool] = False

    def adapted(self, theta: Theta, state: OnPolicyState) -> Theta:
        """Policies and value functions after training, leaves `[task, ...]`."""
        return state.theta


class OnPolicyGym(MirrorDescent, PerObject[Theta, GymTask, OnPolicyState]):
    """On-policy MDPO in Gymnasium's environments."""

    kind: ClassVar[type[Spec]] = GymControlSpec

    def slope(self, loss: Loss, theta: Theta) -> tuple[Theta, Any]:
        """As the base, where no `vmap` is."""
        return engine.slope(loss, theta)

    def adapted(self, theta: Theta, state: list[OnPolicyState]) -> Theta:
        """Policies and value functions after training, leaves `[task, ...]`."""
        return tree.stack([each.theta for each in state])
