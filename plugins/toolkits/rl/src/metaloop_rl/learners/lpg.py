"""Learned Policy Gradient (Oh et al. 2020): an agent's life under a rule that is itself learned.

theta is the rule's network. A life is that of one agent on one task: in each inner step it acts for a segment and is
changed once as the rule says. Meta-gradients and black-box methods learn the rule from the same lives.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Learner, Outcome, tree
from metaloop.learner import per_task
from metaloop.outcome import Clock, outcome
from metaloop.specs import Spec
from pydantic import Field
from torch import Tensor

from metaloop_rl.learners.lpg_acting import Move, Segment, chances, moved, readable
from metaloop_rl.learners.lpg_agent import Heads, View, Weights
from metaloop_rl.learners.lpg_life import stacked_lives
from metaloop_rl.learners.lpg_network import Experience, Guidance, LpgNetwork
from metaloop_rl.models import Theta
from metaloop_rl.policies import Categorical
from metaloop_rl.returns import gae, running
from metaloop_rl.rollout import begin
from metaloop_rl.specs import TensorControlSpec
from metaloop_rl.tasks import Worlds

TERMS = ("entropy", "pi_hat_l2", "y_entropy", "y_hat_l2")
"""What is kept of each update, means over its segment: H(pi), pi_hat^2, H(y), |y_hat|^2; entropies are of the changed
agent."""
VALUE_LOSSES = ("value_loss", "positive_value_loss")
"""Means of |A| and of max(A, 0) over the evaluated segment: scores of curricula (Jiang et al. 2021), where lives have a
critic."""


class LpgState(NamedTuple):
    """Agents in the middle of their lives."""

    actor: Weights
    """Logits of actions."""
    predictor: Weights
    """Logits of y, the prediction vector."""
    critic: tuple[Weights, ...]
    """V, for the meta-gradient's advantages; theta never touches it."""
    env: Any
    """`[task, worker]`."""
    seen: Tensor
    """`[task, worker, *observation]`."""
    running: Tensor
    """`[task, worker]`: rewards of the episode so far."""
    recent: Tensor
    """`[task]`: mean return of the episodes that ended in the last segment in which any did."""
    terms: Tensor
    """`[task, update, 4]`: the last updates' `TERMS`, the newest last."""
    left: Tensor
    """`[task]` int64: updates left in the life."""


class Lpg(Learner[Theta, Worlds, LpgState]):
    """An agent is changed by what a network says of its experience, and by nothing else.

    The agent has a policy pi and a prediction vector y, tables where observations are states' numbers and networks
    elsewhere. An inner step acts for a segment and descends, once,

        mean(log pi(a|s) * pi_hat) + alpha_y * mean(KL(y(s) || y_hat)),

    with pi_hat and y_hat from the rule (theta), each gradient clipped by its norm. The outcome's `loss` is the
    meta-gradient's: an actor-critic loss of the changed agent on one more segment, with a critic that begins and learns
    anew in each life, and four regularisers averaged over the last `window` updates (GROOVE, Jackson et al. 2023):

        -mean(log pi * A) - b0 H(pi) + b2 mean(pi_hat^2) - b1 H(y) + b3 mean(|y_hat|^2)

    `fitness` is the mean return of whole episodes once the life has ended, and of the last episodes of training until
    then. Metrics: `return` (the fitness), `VALUE_LOSSES` and `TERMS` of the last update. For truncated meta-gradients
    take `basics/truncated-gradient` with `window` as here and `measure="end"`. A task that says how long its life is
    (`Environments.lifetimes`) lives so many updates, `steps` is for those that don't.
    """

    steps: int = Field(default=250, ge=0, description="updates of a life, where the task does not say")
    workers: int = Field(default=64, ge=1, description="environments of each task, side by side")
    segment: int = Field(default=20, ge=1, description="environment steps between updates")
    network: LpgNetwork = Field(default_factory=LpgNetwork, description="the rule")
    heads: Heads = Field(default_factory=Heads, description="what agents are made of")
    lr: float = Field(default=40.0, ge=0, description="of a table's policy")
    predictor_lr: float = Field(default=4.0, ge=0, description="of a table's prediction vectors")
    alpha_y: float = Field(default=0.5, ge=0, description="weight of the prediction vectors' loss")
    critic: bool = Field(
        default=True,
        description="a critic for the meta-gradient's advantages; without one they are discounted returns, which "
        "black-box meta-optimizers never look at",
    )
    critic_lr: float = Field(
        default=0.5,
        ge=0,
        description="of a table's critic; at 0.5 a state that is seen in every step is fitted at once",
    )
    gamma: float = Field(default=0.99, ge=0, le=1, description="discount of the meta-gradient's advantages")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of these")
    regularisers: tuple[float, float, float, float] = Field(
        default=(0.05, 0.001, 0.005, 0.001), description="b0 to b3: of H(pi), H(y), pi_hat^2, |y_hat|^2"
    )
    window: int = Field(default=5, ge=1, description="K: updates over which regularisers are averaged")
    episodes: int = Field(default=64, ge=1, description="whole episodes that a life is judged by")
    compile_acting: bool = Field(
        default=False,
        description="compile a step of policy and environment into one graph; an experiment's compile=True would "
        "unroll whole lives into one",
    )

    @classmethod
    def example(cls) -> Self:
        """Two updates of two workers."""
        return cls(steps=2, workers=2, segment=3, episodes=2, network=LpgNetwork.example())

    def check(self, spec: Spec) -> None:
        """Accept tensor environments with discrete actions."""
        if not isinstance(spec, TensorControlSpec) or not spec.discrete:
            raise Incompatible("rl/lpg acts in tensor environments with discrete actions")

    def init(self, spec: Spec, key: Key) -> Theta:
        """The rule's first parameters."""
        return self.network.init(key)

    def lifetime(self, tasks: Worlds) -> int | Tensor:
        """As the task says, or `steps`."""
        return tasks.lifetime if isinstance(tasks.lifetime, Tensor) else self.steps

    def outcomes(self, theta: Theta, tasks: Worlds, keys: Key, longest: int | None = None) -> Outcome:
        """Whole lives, also of a population of rules: all as one batch, from which lives that ended drop out."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.live(theta, tasks, keys, longest)[0]
        return stacked_lives(self, theta, tasks, keys)

    def begin(self, theta: Theta, tasks: Worlds, keys: Key) -> LpgState:
        """A new agent and new episodes for each task."""
        spec, n = tasks.env.spec, len(keys)
        env, seen = begin(tasks, self.workers, keys)
        reward = torch.zeros(n, self.workers, dtype=torch.get_default_dtype(), device=keys.device)
        return LpgState(
            self.heads.init(spec, spec.actions, n, keys.fold("actor")),
            self.heads.init(spec, self.network.predictions, n, keys.fold("predictor")),
            (self.heads.init(spec, 1, n, keys.fold("critic")),) if self.critic else (),
            env,
            seen,
            reward,
            torch.zeros_like(reward[:, 0]),
            reward.new_zeros(n, self.window, len(TERMS)),
            per_task(self.lifetime(tasks), n, keys.device),
        )

    def step(self, theta: Theta, state: LpgState, tasks: Worlds, clock: Clock, keys: Key) -> LpgState:
        """A segment of experience and one update."""
        happened, state = self.act(state, tasks, keys)
        actor, predictor, terms = self.improved(theta, state, happened, clock)
        return state._replace(
            actor=actor,
            predictor=predictor,
            critic=tuple(self._fitted(critic, happened) for critic in state.critic),
            terms=torch.cat([state.terms[:, 1:], terms[:, None]], dim=1),
            left=state.left - 1,
        )

    @cached_property
    def move(self) -> Move:
        """One step of policy and environment, compiled where that was asked for."""
        move = partial(moved, self.heads)
        return torch.compile(move) if self.compile_acting else move

    @torch.no_grad()
    def act(self, state: LpgState, tasks: Worlds, keys: Key) -> tuple[Segment, LpgState]:
        """Act for a segment from where the episodes are."""
        env, seen, rows = state.env, state.seen, []
        for gumbel, own in chances(keys.split(seen.shape[1]), range(self.segment), tasks.env.actions):
            time = env.time
            action, step = self.move(tasks.env, state.actor.values, env, seen, gumbel, own.data, True)
            rows.append((seen, time, action, step.reward, step.terminated, step.done, step.final_observation))
            env, seen = step.state, step.observation
        observed, times, action, reward, terminated, done, after = (
            torch.stack(column, dim=1) for column in zip(*rows, strict=True)
        )  # [task, time, worker]
        returns, sums = running(reward.movedim(1, 0), done.movedim(1, 0), state.running)
        ended = done.to(reward.dtype)
        recent = (returns.movedim(0, 1) * ended).sum((1, 2)) / ended.sum((1, 2)).clamp(min=1.0)
        happened = Segment(
            View(
                torch.cat([observed, seen[:, None]], 1).flatten(1, 2),
                torch.cat([times, env.time[:, None]], 1).flatten(1),
            ),
            View(after.flatten(1, 2), times.flatten(1) + 1),
            action,
            reward,
            terminated,
            done,
        )
        recent = torch.where(done.flatten(1).any(1), recent, state.recent)
        return happened, state._replace(env=env, seen=seen, running=sums, recent=recent)

    def improved(
        self, theta: Theta, state: LpgState, happened: Segment, clock: Clock
    ) -> tuple[Weights, Weights, Tensor]:
        """Actor and predictor after one update, and the update's `TERMS` `[task, 4]`."""
        task, time, worker = happened.reward.shape
        acted = View(*(part[:, : time * worker] for part in happened.seen))
        logits, pull = self.heads.vjp(state.actor.values, acted)
        policy = logits.log_softmax(-1)  # [task, rows, action]
        log_y_all = self.heads.outputs(state.predictor.values, happened.seen).log_softmax(-1)
        y_logits, pull_y = self.heads.vjp(state.predictor.values, acted)
        log_y, action = y_logits.log_softmax(-1), happened.action.flatten(1)[..., None]
        probability = policy.detach().gather(-1, action).exp().reshape(task, time, worker)
        y = log_y_all.detach().exp().reshape(task, time + 1, worker, -1)
        said = self.network(theta, Experience(happened.reward, happened.done, probability, y), clock)
        slope, slope_y = _slopes(policy, action, log_y, said)
        actor = self.heads.descend(state.actor, pull(slope), self.lr)
        predictor = self.heads.descend(state.predictor, pull_y(self.alpha_y * slope_y), self.predictor_lr)
        entropies = (
            Categorical(self.heads.outputs(weights.values, acted)).entropy().mean(1) for weights in (actor, predictor)
        )
        h_pi, h_y = entropies
        y_l2 = said.log_y_hat.exp().square().sum(-1).mean((1, 2))
        return actor, predictor, torch.stack([h_pi, said.pi_hat.square().mean((1, 2)), h_y, y_l2], dim=-1)

    @torch.no_grad()
    def _advantages(self, critic: tuple[Weights, ...], happened: Segment) -> Tensor:
        """`[task, time, worker]`."""
        shape = happened.reward.shape
        if critic:
            value, after = (
                self.heads.outputs(critic[0].values, seen)[:, : shape[1] * shape[2], 0].reshape(shape)
                for seen in (happened.seen, happened.after)
            )
        else:
            value = after = torch.zeros_like(happened.reward)
        reward, value, after, terminated, done = (
            part.movedim(1, 0) for part in (happened.reward, value, after, happened.terminated, happened.done)
        )
        return gae(reward, value, after, terminated, done, self.gamma, self.lam).movedim(0, 1)

    @torch.no_grad()
    def _fitted(self, critic: Weights, happened: Segment) -> Weights:
        """The critic after one step towards TD(lambda)."""
        gain = self._advantages((critic,), happened).flatten(1)[..., None]
        acted = View(*(part[:, : gain.shape[1]] for part in happened.seen))
        _, pull = self.heads.vjp(critic.values, acted)
        return self.heads.descend(critic, pull(-2.0 * gain / gain.shape[1]), self.critic_lr)

    def evaluate(self, theta: Theta, state: LpgState, tasks: Worlds, keys: Key) -> Outcome:
        """The meta-gradient's loss on one more segment, and how well the agent does."""
        happened, _ = self.act(state, tasks, keys.fold("segment"))
        acted = View(*(part[:, : happened.reward[0].numel()] for part in happened.seen))
        played = Categorical(self.heads.outputs(state.actor.values, acted)).log_prob(happened.action.flatten(1))
        gain = self._advantages(state.critic, happened).flatten(1)
        deviation, mean = torch.std_mean(gain, 1, correction=0, keepdim=True)
        h_pi, pi_l2, h_y, y_l2 = state.terms.mean(1).unbind(-1)
        b0, b1, b2, b3 = self.regularisers
        loss = -(played * (gain - mean) / (deviation + 1e-8)).mean(1) - b0 * h_pi - b1 * h_y + b2 * pi_l2 + b3 * y_l2
        fitness = self._fitness(state, tasks, keys.fold("episodes"))
        terms = dict(zip(TERMS, state.terms[:, -1].detach().unbind(-1), strict=True))
        losses = dict(zip(VALUE_LOSSES, (gain.abs().mean(1), gain.clamp(min=0.0).mean(1)), strict=True))
        return outcome(loss, fitness, {"return": fitness, **losses, **terms})

    @torch.no_grad()
    def _fitness(self, state: LpgState, tasks: Worlds, keys: Key) -> Tensor:
        """Mean return of whole episodes of lives that ended, of the last episodes in training of others; `[task]`."""
        over = state.left <= 0
        if not readable(over):
            return torch.where(over, self.mean_returns(state.actor, tasks, keys), state.recent)
        rows = over.nonzero()[:, 0]
        if not len(rows):
            return state.recent
        worlds = tasks._replace(parameters=tree.index(tasks.parameters, rows))
        found = self.mean_returns(tree.index(state.actor, rows), worlds, keys[rows])
        return state.recent.index_copy(0, rows, found)

    def mean_returns(self, actor: Weights, tasks: Worlds, keys: Key) -> Tensor:
        """Mean undiscounted return of `episodes` whole episodes of each task, `[task]`."""
        env, lives = tasks.env, keys.split(self.episodes)
        state, seen = env.reset(keys.fold("reset"), self.episodes, tasks.parameters)
        alive = torch.ones(lives.shape, dtype=torch.bool, device=keys.device)
        total = torch.zeros(lives.shape, dtype=torch.get_default_dtype(), device=keys.device)
        for t in range(0, env.max_steps, self.segment):
            for gumbel, own in chances(lives, range(t, min(t + self.segment, env.max_steps)), env.actions):
                _, step = self.move(env, actor.values, state, seen, gumbel, own.data, False)
                state, seen = step.state, step.observation
                total = total + step.reward * alive
                alive = alive & ~step.done
            if readable(alive) and not bool(alive.any()):
                break
        return total.mean(-1)


def _slopes(policy: Tensor, action: Tensor, log_y: Tensor, said: Guidance) -> tuple[Tensor, Tensor]:
    """The gradient of the agent's two losses with respect to logits, `[task, rows, action]` and `[task, rows, m]`.

    Written out, so that a meta-gradient differentiates once what would otherwise be differentiated twice.
    """
    rows, pi_hat = policy.shape[1], said.pi_hat.flatten(1)[..., None]
    chosen = torch.zeros_like(policy).scatter(-1, action, 1.0)
    y, away = log_y.exp(), log_y - said.log_y_hat.flatten(1, 2)
    divergence = (y * away).sum(-1, keepdim=True)
    return pi_hat * (chosen - policy.exp()) / rows, y * (away - divergence) / rows
