"""Policies that do not adapt: theta is a network's weights, judged by the returns of whole episodes.

What black-box meta-optimizers need for reinforcement learning: with one of these learners a genetic algorithm or an
evolution strategy is a method of policy search.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from metaloop import Component, Incompatible, Key, Learner, Outcome, PerObject, tree
from metaloop.outcome import outcome
from metaloop.specs import ControlSpec, Spec, SupervisedSpec
from metaloop_basics.models import Mlp, Model
from pydantic import Field
from torch import Tensor

from metaloop_rl.policies import Categorical, Gaussian
from metaloop_rl.specs import GymControlSpec, TensorControlSpec
from metaloop_rl.tasks import GymTask, Worlds

Theta = dict[str, Tensor]
BEHAVIOUR = "behaviour/"
"""What the names of metrics begin with that say where episodes ended; novelty search looks at these."""


@runtime_checkable
class Describes(Protocol):
    """A tensor environment that says what of its physics describes how an episode ended."""

    def behaviour(self, parameters: Any, physics: Any) -> Tensor:
        """`[*batch, k]`."""
        ...


class Network(Component):
    """What policies without an inner loop share: a network, and how its outputs become actions."""

    model: Model = Field(default=Mlp(widths=(16, 16), activation="tanh"), description="the network")
    initialisation: Literal["torch", "fan_in"] = Field(
        default="torch",
        description="fan_in: weights from N(0, 1 / fan-in), the head's of a tenth of that deviation, biases 0 "
        "(Such et al. 2017)",
    )
    episodes: int = Field(default=1, ge=1, description="episodes of each evaluation")
    max_steps: int | None = Field(default=None, ge=1, description="steps of an episode at most; None: the task's own")
    temperature: float = Field(
        default=0.0,
        ge=0,
        description="0: the best action; else actions are drawn, discrete ones from softmax(outputs / temperature), "
        "continuous ones with this standard deviation",
    )
    behaviour: Literal["none", "final"] = Field(
        default="none",
        description="final: metrics behaviour/0, ... hold how episodes ended, in the environment's own description or "
        "by the last observation",
    )

    def check(self, spec: Spec) -> None:
        """Accept environments whose observations the network takes.

        Raises:
            Incompatible: the spec is of another kind, or the network takes no such observations.
        """
        known = self.kind
        if not isinstance(spec, known):
            raise Incompatible(
                f"{type(self).__name__} acts in environments ({known.__name__}), not {type(spec).__name__}"
            )
        if spec.horizon is None and self.max_steps is None:
            raise Incompatible("these episodes have no bound: set learner.max_steps")
        if self.behaviour == "final" and len(spec.observation) != 1:
            raise Incompatible(
                f"behaviour=final takes the last observation as numbers, these are images {spec.observation}: set "
                "learner.behaviour=none"
            )
        self.model.check(SupervisedSpec(inputs=spec.observation, outputs=spec.actions, shots=0, queries=1))

    kind: ClassVar[type[ControlSpec]]
    """The spec that the learner takes."""

    def init(self, spec: Spec, key: Key) -> Theta:
        """The network's first weights."""
        assert isinstance(spec, ControlSpec)
        if self.initialisation == "torch":
            return self.model.init(spec.observation, spec.actions, key)
        with torch.device("meta"):
            shapes = {
                name: value.shape
                for name, value in self.model.network(spec.observation, spec.actions).named_parameters()
            }
        return {name: _fan_in(name, shape, key) for name, shape in shapes.items()}

    def actions(self, outputs: Tensor, discrete: bool, key: Key) -> Tensor:
        """Actions `[*batch]` or `[*batch, actions]` from the network's outputs `[*batch, actions]`."""
        if self.temperature == 0:
            return outputs.argmax(-1) if discrete else outputs
        if discrete:
            return Categorical(outputs / self.temperature).sample(key)
        return Gaussian(outputs, outputs.new_tensor(self.temperature).log()).sample(key)

    def judged(self, returns: Tensor, lengths: Tensor, behaviour: Tensor | None) -> Outcome:
        """The outcome of episodes: returns and lengths `[*batch, episode]`, behaviours `[*batch, episode, k]`."""
        mean = returns.mean(-1)
        metrics = {"return": mean, "length": lengths.mean(-1)}
        if behaviour is not None:
            metrics |= {f"{BEHAVIOUR}{i}": value for i, value in enumerate(behaviour.mean(-2).unbind(-1))}
        return outcome(fitness=mean, metrics=metrics)


def _fan_in(name: str, shape: torch.Size, key: Key) -> Tensor:
    dtype = torch.get_default_dtype()
    if len(shape) < 2:
        return torch.zeros(shape, dtype=dtype, device=key.device)
    scale: float = shape[1:].numel() ** -0.5 * (0.1 if name.startswith("head.") else 1.0)
    return scale * key.fold(name).normal(*shape, dtype=dtype)


class Episodic(Network, Learner[Theta, Worlds, tuple[()]]):
    """A policy in tensor environments: all episodes of all tasks, and of a whole population, run as one batch.

    Fitness is the mean return. Episodes stop when all are over, but not under `torch.compile`.
    """

    differentiable: ClassVar[bool] = False
    kind: ClassVar[type[ControlSpec]] = TensorControlSpec

    @classmethod
    def example(cls) -> Self:
        """A small network and short episodes."""
        return cls(model=Mlp.example(), max_steps=5, behaviour="final")

    def begin(self, theta: Theta, tasks: Worlds, keys: Key) -> tuple[()]:
        """Nothing."""
        return ()

    def evaluate(self, theta: Theta, state: tuple[()], tasks: Worlds, keys: Key) -> Outcome:
        """Whole episodes of each task."""
        names, weights = list(theta), list(theta.values())
        parameters = list(tasks.parameters)
        play = Play(self, tasks.env, type(tasks.parameters), tuple(names))
        if torch.compiler.is_compiling():
            rows = play(*_led(weights), *_led(parameters), keys.data[None])
        else:
            rows = _Episodes.apply(play, *_led(weights), *_led(parameters), keys.data[None])
        returns, lengths, behaviour = tree.index(rows, 0)
        return self.judged(returns, lengths, behaviour if self.behaviour == "final" else None)


def _led(tensors: list[Tensor]) -> list[Tensor]:
    """With a leading axis of one candidate."""
    return [value[None] for value in tensors]


class Play(NamedTuple):
    """Episodes of a population as one batch: a function of tensors alone."""

    learner: Episodic
    env: Any
    parameters_type: Any
    names: tuple[str, ...]
    """Of theta's tensors."""

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns and lengths `[candidate, task, episode]`, behaviours `[candidate, task, episode, k]`.

        Args:
            tensors: theta's leaves `[candidate, ...]`, the parameters' `[candidate, task, ...]`, and keys
                `[candidate, task]`.
        """
        env, learner, n = self.env, self.learner, len(self.names)
        theta = dict(zip(self.names, tensors[:n], strict=True))
        parameters, keys = self.parameters_type(*tensors[n:-1]), Key(tensors[-1])
        limit = min(env.max_steps, learner.max_steps or env.max_steps)
        lives = keys.split(learner.episodes)  # [candidate, task, episode]
        state, seen = env.reset(keys.fold("reset"), learner.episodes, parameters)
        physics = state.physics
        axes = seen.shape[:3]
        alive = torch.ones(axes, dtype=torch.bool, device=seen.device)
        returns, lengths = (
            torch.zeros(axes, dtype=seen.dtype, device=seen.device),
            torch.zeros(axes, device=seen.device),
        )
        lengths = lengths.to(seen.dtype)
        for t in range(limit):
            rows = seen.reshape(axes[0], -1, *env.observation)
            outputs = learner.model.outputs(theta, rows, each=True).reshape(*axes, -1)
            action = learner.actions(outputs, env.discrete, lives.fold("policy", t))
            step = env.step(state, action, lives.fold("environment", t))
            state, seen = step.state, step.observation
            returns = returns + torch.where(alive, step.reward, 0.0)
            lengths = lengths + alive
            physics = tree.where(alive, state.physics, physics)
            alive = alive & ~step.done
            if _readable(alive) and not bool(alive.any()):
                break
        return returns, lengths, self._behaviour(state.parameters, physics)

    def _behaviour(self, parameters: Any, physics: Any) -> Tensor:
        if isinstance(self.env, Describes):
            return self.env.behaviour(parameters, physics)
        seen: Tensor = self.env.observe(parameters, physics)
        return seen.flatten(3)


def _readable(mask: Tensor) -> bool:
    """Whether the values of a tensor can be looked at: not under `vmap`, nor while compiling."""
    if torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(mask)


class _Episodes(torch.autograd.Function):
    """`Play` with a rule for `vmap`: environments take any leading axes, so a population is one more of them.

    That is quicker than `vmap` over every operation, and episodes can stop when all are over.
    """

    @staticmethod
    def forward(play: Play, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return play(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: there is no gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, play: Play, *tensors: Tensor) -> Any:
        """The axis of `vmap` and that of candidates as one."""
        n = info.batch_size
        whole = [
            (value.expand(n, *value.shape) if axis is None else value.movedim(axis, 0)).flatten(0, 1)
            for value, axis in zip(tensors, in_dims[1:], strict=True)
        ]
        return tuple(part.unflatten(0, (n, -1)) for part in _Episodes.apply(play, *whole)), (0, 0, 0)


class EpisodicGym(Network, PerObject[Theta, GymTask, tuple[()]]):
    """A policy in Gymnasium's environments, one episode after the other; an executor spreads a population.

    The environment is opened for each evaluation.
    """

    kind: ClassVar[type[ControlSpec]] = GymControlSpec

    @classmethod
    def example(cls) -> Self:
        """A small network and short episodes."""
        return cls(model=Mlp.example(), max_steps=5, behaviour="final")

    def begin_one(self, theta: Theta, task: GymTask, key: Key) -> tuple[()]:
        """Nothing: evaluation opens what it needs."""
        return ()

    def evaluate_one(self, theta: Theta, state: tuple[()], task: GymTask, key: Key) -> Outcome:
        """Whole episodes."""
        from metaloop_rl.gym import GymCopies

        copies = GymCopies(task, 1)
        try:
            ends = [self._episode(theta, copies, key.fold("episode", i)) for i in range(self.episodes)]
        finally:
            copies.close()
        returns, lengths, behaviour = (torch.stack(column) for column in zip(*ends, strict=True))
        return self.judged(returns, lengths, behaviour if self.behaviour == "final" else None)

    def _episode(self, theta: Theta, copies: Any, key: Key) -> tuple[Tensor, Tensor, Tensor]:
        """Return, length and behaviour of one episode."""
        spec, total, t = copies.spec, 0.0, 0
        seen = copies.reset(key.fold("reset"))
        while True:
            outputs = self.model.outputs(theta, seen[None])[0]
            action = self.actions(outputs, spec.discrete, key.fold("policy").fold(torch.tensor([t])))
            step = copies.step(action, key.fold("environment", t), reset=False)
            total, t, seen = total + float(step.reward), t + 1, step.observation
            if bool(step.done) or t == self.max_steps:
                return seen.new_tensor(total), seen.new_tensor(t), step.final_observation[0].flatten()
