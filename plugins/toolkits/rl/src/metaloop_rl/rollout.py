"""Acting in environments, whichever kind they are: the same for tensor worlds and for Gymnasium's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from metaloop import Key
from torch import Tensor

from metaloop_rl.envs.env import Step
from metaloop_rl.tasks import GymTask, Worlds

Task = Worlds | GymTask
"""One task of a `TensorControlSpec` (or a batch of them) or of a `GymControlSpec`."""


class Trajectory(NamedTuple):
    """What happened, `[time, *batch, n]` each, with episodes one after the other."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_observation: Tensor
    """What a step led to, before any reset."""

    @property
    def done(self) -> Tensor:
        """Where an episode ended."""
        return self.terminated | self.truncated


Policy = Callable[[Tensor, Key], Tensor]
"""Actions `[*batch, n, ...]` for observations `[*batch, n, *observation]` and keys `[*batch, n]`."""


def begin(task: Task, n: int, key: Key) -> tuple[Any, Tensor]:
    """Begin `n` episodes of a task (of each task of a batch, with a batch of keys).

    Returns:
        The state, and what is seen `[*batch, n, *observation]`.
    """
    if isinstance(task, Worlds):
        return task.env.reset(key, n, task.parameters)
    from metaloop_rl.gym import GymCopies

    copies = GymCopies(task, n)
    return copies, copies.reset(key)


def act(task: Task, state: Any, action: Tensor, key: Key) -> Step:
    """One step of all episodes; those that end begin anew at once."""
    if isinstance(task, Worlds):
        return task.env.step_and_reset(state, action, key.split(state.time.shape[-1]))
    step: Step = state.step(action, key)
    return step


def rollout(
    task: Task, state: Any, observation: Tensor, policy: Policy, key: Key, steps: int
) -> tuple[Trajectory, Any, Tensor]:
    """Act for some steps from where the episodes are.

    Returns:
        What happened `[steps, *batch, n]`, the state and what is seen now.
    """
    rows = []
    n = observation.shape[len(key.shape)]
    for t in range(steps):
        now = key.fold(t)
        action = policy(observation, now.fold("policy").split(n))
        step = act(task, state, action, now.fold("environment"))
        rows.append((observation, action, step.reward, step.terminated, step.truncated, step.final_observation))
        state, observation = step.state, step.observation
    return Trajectory(*(torch.stack(column) for column in zip(*rows, strict=True))), state, observation
