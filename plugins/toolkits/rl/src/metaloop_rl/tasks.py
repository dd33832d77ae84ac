"""Control tasks: distributions over tensor environments, and over Gymnasium's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch
from metaloop import Draw, Key, Options, TaskFamily, UserError
from pydantic import Field, PositiveInt
from torch import Tensor

from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.env import Range, TensorEnv
from metaloop_rl.specs import GymControlSpec, TensorControlSpec

if TYPE_CHECKING:
    AnyTensorEnv = TensorEnv[Any, Any]
else:  # pydantic would take a parametrised generic for a class of its own
    AnyTensorEnv = TensorEnv


class Worlds(NamedTuple):
    """A batch of environments of one kind (or one, inside `PerTask`): the tasks of a `TensorControlSpec`.

    An environment is no tensor but a part of the structure, so that a batch passes through `vmap`.
    """

    env: AnyTensorEnv
    parameters: Any
    """The environment's parameters, `[task, ...]`."""
    lifetime: Tensor | tuple[()] = ()
    """`[task]` int64: inner steps of each task's life; empty where that is the learner's to say."""


class Environments(TaskFamily[Worlds, dict[str, Any]]):
    """Tasks are tensor environments whose parameters vary."""

    env: AnyTensorEnv = Field(default_factory=CartPole, description="the environment")
    vary: tuple[Range, ...] = Field(default=(), description="parameters that differ from task to task")
    lifetimes: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="inner steps of a task's life, log-uniform between these; None: the learner's steps"
    )

    @classmethod
    def example(cls) -> Environments:
        """CartPole under other gravities."""
        return cls(vary=(Range.example(),))

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that the environment does not have.

        Raises:
            UserError: a range names none of them that is one number, or lifetimes are upside down.
        """
        if self.lifetimes is not None and self.lifetimes[0] > self.lifetimes[1]:
            raise UserError(f"Environments.lifetimes: {self.lifetimes[0]} is above {self.lifetimes[1]}")
        drawn = self.env.draw(Key.of(0))
        known = [name for name, part in drawn._asdict().items() if part.is_floating_point() and part.ndim == 0]
        for part in self.vary:
            if part.name not in known:
                raise UserError(
                    f"vary: {type(self.env).__name__} has no parameter {part.name!r} that is one number, "
                    f"it has {', '.join(known) or 'none'}"
                )

    @property
    def spec(self) -> TensorControlSpec:
        """The environment's."""
        return self.env.spec

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Worlds]:
        """Environments with their own parameters each."""
        parameters = self.env.draw(key.split(n).fold("parameters"))
        ranges = {
            part.name: key.fold("vary", part.name)
            .uniform(n, low=part.low, high=part.high)
            .to(getattr(parameters, part.name).dtype)
            for part in self.vary
        }
        worlds = Worlds(self.env, parameters._replace(**ranges))
        if self.lifetimes is None:
            return Draw(worlds)
        low, high = self.lifetimes
        drawn = key.fold("lifetime").uniform(n, dtype=torch.float64)  # floor of log-uniform in [low, high + 1)
        return Draw(worlds._replace(lifetime=(low * ((high + 1) / low) ** drawn).to(torch.int64)))

    def columns(self, tasks: Worlds) -> Mapping[str, Sequence[Any]]:
        """What varies."""
        lifetime = {"lifetime": tasks.lifetime.tolist()} if isinstance(tasks.lifetime, Tensor) else {}
        return {part.name: getattr(tasks.parameters, part.name).tolist() for part in self.vary} | lifetime


class GymTask(TypedDict):
    """A Gymnasium environment as a plain value."""

    id: str
    options: dict[str, Any]
    """Keyword arguments of `gymnasium.make`."""
    wrappers: list[tuple[str, dict[str, Any]]]
    """Names in `gymnasium.wrappers` and their keyword arguments, the innermost first."""
    settings: dict[str, float]
    """Attributes of the unwrapped environment by dotted path, set after it was made."""


class GymTasks(TaskFamily[list[GymTask], dict[str, Any]]):
    """Tasks are Gymnasium environments of one id, whose attributes or options may vary."""

    id: str = Field(default="CartPole-v1", description="Gymnasium's id")
    options: Options = Field(default=Options(), description="keyword arguments of gymnasium.make")
    wrappers: tuple[tuple[str, Options], ...] = Field(
        default=(), description="names in gymnasium.wrappers and their keyword arguments, the innermost first"
    )
    vary: tuple[Range, ...] = Field(
        default=(), description="attributes of the unwrapped environment by dotted path, such as model.opt.gravity.2"
    )
    vary_options: tuple[Range, ...] = Field(default=(), description="keyword arguments that vary")

    @classmethod
    def example(cls) -> GymTasks:
        """CartPole under other gravities."""
        return cls(vary=(Range.example(),))

    @cached_property
    def spec(self) -> GymControlSpec:
        """What the environment says of its spaces."""
        from metaloop_rl.gym import open_env, spec_of

        [task] = self.sample({}, 1, Key.of(0)).tasks
        env = open_env(task)
        try:
            return spec_of(env)
        finally:
            env.close()

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[list[GymTask]]:
        """Descriptions of environments."""

        def values(part: Range) -> list[float]:
            drawn: list[float] = key.fold("vary", part.name).uniform(n, low=part.low, high=part.high).tolist()
            return drawn

        settings = {part.name: values(part) for part in self.vary}
        options = {part.name: values(part) for part in self.vary_options}
        return Draw(
            [
                GymTask(
                    id=self.id,
                    options={**self.options, **{name: drawn[i] for name, drawn in options.items()}},
                    wrappers=[(name, dict(given)) for name, given in self.wrappers],
                    settings={name: drawn[i] for name, drawn in settings.items()},
                )
                for i in range(n)
            ]
        )

    def columns(self, tasks: list[GymTask]) -> Mapping[str, Sequence[Any]]:
        """What varies."""
        return {
            **{part.name: [task["settings"][part.name] for task in tasks] for part in self.vary},
            **{part.name: [task["options"][part.name] for task in tasks] for part in self.vary_options},
        }
