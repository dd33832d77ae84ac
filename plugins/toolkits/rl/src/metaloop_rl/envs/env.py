"""Environments as pure functions over tensors: thousands in one batch, under `vmap`, `grad` and `torch.compile`."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from metaloop import Component, Key, UserError, tree
from pydantic import Field
from torch import Tensor

from metaloop_rl.specs import TensorControlSpec

Physics = TypeVar("Physics")
Parameters = TypeVar("Parameters")


class EnvState(NamedTuple):
    """Where a batch of environments is."""

    physics: Any
    """The environment's own NamedTuple of tensors `[*batch, ...]`."""
    time: Tensor
    """`[*batch]` int64: steps taken in this episode."""
    parameters: Any
    """What the environment is made of (gravity, walls): a NamedTuple of tensors `[*batch, ...]`."""


class Step(NamedTuple):
    """What one step of a batch of environments gives; Gymnasium's names."""

    state: Any
    """An `EnvState`; for Gymnasium's environments the live copies."""
    observation: Tensor
    """`[*batch, *observation]`: what to act on next; where an episode ended and was reset, the new one's first."""
    reward: Tensor
    """`[*batch]`."""
    terminated: Tensor
    """`[*batch]` bool: the task itself ended."""
    truncated: Tensor
    """`[*batch]` bool: time was up; what would have come is still worth something."""
    final_observation: Tensor
    """`[*batch, *observation]`: what this step led to, before any reset: the one to bootstrap from."""

    @property
    def done(self) -> Tensor:
        """`[*batch]` bool: the episode is over."""
        return self.terminated | self.truncated


class TensorEnv(Component, Generic[Physics, Parameters]):
    """An environment written as functions of tensors with any leading axes, no axis of its own before them.

    An author defines the NamedTuple `Parameters`, whose fields have the names of the component's fields (their
    defaults), and `start`, `advance`, `observe`. A row's course depends on its own parameters, actions and key only.
    """

    parameters_type: ClassVar[type[Any]]
    """The NamedTuple of what may vary from environment to environment."""
    discrete: ClassVar[bool] = True
    """Whether actions are numbers from 0, `[*batch]` int64, or vectors in [-1, 1], `[*batch, actions]`."""

    max_steps: int = Field(default=1000, ge=1, description="steps until an episode is truncated")

    @property
    def observation(self) -> tuple[int, ...]:
        """Shape of one observation."""
        raise NotImplementedError(f"{type(self).__name__} must say its observation's shape")

    @property
    def actions(self) -> int:
        """Number of discrete actions, or width of a continuous one."""
        raise NotImplementedError(f"{type(self).__name__} must say its number of actions")

    def start(self, parameters: Parameters, key: Key) -> Physics:
        """The first physics of an episode; `parameters` and `key` `[*batch]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement start")

    def advance(
        self, parameters: Parameters, physics: Physics, action: Tensor, key: Key
    ) -> tuple[Physics, Tensor, Tensor]:
        """Physics after one step, its reward `[*batch]` and whether it ended the episode `[*batch]` bool."""
        raise NotImplementedError(f"{type(self).__name__} must implement advance")

    def observe(self, parameters: Parameters, physics: Physics) -> Tensor:
        """What the agent sees, `[*batch, *observation]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement observe")

    def draw(self, key: Key) -> Parameters:
        """Parameters of one environment for each key of the batch; by default all have the component's own."""

        def spread(name: str) -> Tensor:
            return torch.as_tensor(getattr(self, name), device=key.device).expand(key.shape)

        drawn: Parameters = self.parameters_type(*map(spread, self.parameters_type._fields))
        return drawn

    def time_limit(self, parameters: Parameters) -> int | Tensor:
        """Steps until an episode is truncated, for all or `[*batch]`; at most `max_steps`."""
        return self.max_steps

    @property
    def states(self) -> int | None:
        """How many states there are, where an observation is a state's number: of shape `()`, int64."""
        return None

    # What follows is the toolkit's; authors of environments leave it.

    @property
    def spec(self) -> TensorControlSpec:
        """What kind of task this is."""
        return TensorControlSpec(
            observation=self.observation,
            actions=self.actions,
            discrete=self.discrete,
            horizon=self.max_steps,
            states=self.states,
        )

    def reset(self, key: Key, n: int, parameters: Parameters | None = None) -> tuple[EnvState, Tensor]:
        """Begin `n` episodes for each key `[*batch]`.

        Args:
            key: one key, or a batch.
            n: how many environments, a new last axis of the batch.
            parameters: `[*batch, ...]`, each for its `n` environments; drawn for each environment where None.

        Returns:
            The state and what is seen, `[*batch, n, ...]`.
        """
        keys, axis = key.split(n), len(key.shape)
        if parameters is None:
            parameters = self.draw(keys.fold("parameters"))
        else:
            parameters = tree.map_tensors(
                lambda leaf: leaf.unsqueeze(axis).expand(*leaf.shape[:axis], n, *leaf.shape[axis:]), parameters
            )
        return self.restart(parameters, keys.fold("start"))

    def restart(self, parameters: Parameters, keys: Key) -> tuple[EnvState, Tensor]:
        """Begin one episode for each key `[*batch]` with parameters `[*batch, ...]`."""
        physics = self.start(parameters, keys)
        time = torch.zeros(keys.shape, dtype=torch.int64, device=keys.device)
        return EnvState(physics, time, parameters), self.observe(parameters, physics)

    def step(self, state: EnvState, action: Tensor, key: Key) -> Step:
        """One step; what is over stays as it ended: nothing is reset.

        Args:
            state: `[*batch]`.
            action: `[*batch]` int64, or `[*batch, actions]` in [-1, 1] (what is outside is clipped).
            key: `[*batch]`.
        """
        action = action if self.discrete else action.clamp(-1.0, 1.0)
        physics, reward, terminated = self.advance(state.parameters, state.physics, action, key)
        time = state.time + 1
        seen = self.observe(state.parameters, physics)
        late = time >= self.time_limit(state.parameters)
        return Step(EnvState(physics, time, state.parameters), seen, reward, terminated, late, seen)

    def step_and_reset(self, state: EnvState, action: Tensor, key: Key) -> Step:
        """One step; where it ends an episode the next one begins at once (Gymnasium's SAME_STEP autoreset)."""
        step = self.step(state, action, key.fold("step"))
        done, keys = step.done, key.fold("reset")
        if _may_look_at(done):
            return self._begin_rows(step, done.nonzero(as_tuple=True), keys)
        fresh, first = self.restart(state.parameters, keys)
        shaped = done.reshape(done.shape + (1,) * len(self.observation))
        return step._replace(
            state=EnvState(
                tree.where(done, fresh.physics, step.state.physics),
                torch.where(done, 0, step.state.time),
                state.parameters,
            ),
            observation=torch.where(shaped, first, step.observation),
        )

    def _begin_rows(self, step: Step, rows: tuple[Tensor, ...], keys: Key) -> Step:
        """New episodes in the rows whose episode ended, without the work of beginning one in every row."""
        if not len(rows[0]):
            return step
        parameters = step.state.parameters
        fresh, first = self.restart(tree.index(parameters, rows), keys[rows])

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_put(rows, new.to(old.dtype))

        physics = tree.tree_map(put, step.state.physics, fresh.physics)
        time = put(step.state.time, fresh.time)
        return step._replace(state=EnvState(physics, time, parameters), observation=put(step.observation, first))


def wrapped(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def columns(*values: Tensor) -> Tensor:
    """Values `[*batch]` as one tensor `[*batch, value]`.

    They lie one after the other in memory: to interleave them costs ten times as much.
    """
    return torch.stack(values).movedim(0, -1)


def _may_look_at(done: Tensor) -> bool:
    """Whether what is computed may depend on values, and whether that pays: on a GPU looking means to wait."""
    return (
        done.ndim > 0
        and done.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None  # inside vmap or grad
    )


class Range(Component):
    """A parameter that varies from task to task, uniformly."""

    name: str = Field(description="the parameter's name")
    low: float = Field(description="lower end, in the parameter's unit")
    high: float = Field(description="upper end")

    @classmethod
    def example(cls) -> Range:
        """CartPole's gravity."""
        return cls(name="gravity", low=5.0, high=15.0)

    def model_post_init(self, context: Any) -> None:
        """Refuse a range that is none.

        Raises:
            UserError: `low` is above `high`.
        """
        if self.low > self.high:
            raise UserError(f"Range {self.name!r}: low {self.low:g} is above high {self.high:g}")
