"""Lives under many rules at once, without `vmap`: every row of one batch has a rule of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from metaloop import Key, Outcome, tree
from metaloop.learner import per_task, to_rows
from metaloop.outcome import Clock
from torch import Tensor

from metaloop_rl.models import Theta
from metaloop_rl.tasks import Worlds

if TYPE_CHECKING:
    from metaloop_rl.learners.lpg import Lpg


def stacked_lives(learner: Lpg, theta: Theta, tasks: Worlds, keys: Key) -> Outcome:
    """What `learner.live` gives, without a graph; under `vmap` over rules all rules' lives are one batch."""
    parameters, lifetime = list(tasks.parameters), per_task(learner.lifetime(tasks), len(keys), keys.device)
    lives = Lives(learner, tasks.env, type(tasks.parameters), tuple(theta), isinstance(tasks.lifetime, Tensor))
    rows = _Lives.apply(lives, False, *theta.values(), *parameters, lifetime, keys.data)
    loss, fitness, *metrics = rows
    return Outcome(loss, fitness, dict(zip(lives.metrics(), metrics, strict=True)))


class Lives(NamedTuple):
    """What is no tensor."""

    learner: Lpg
    env: Any
    parameters: Any
    """The type of the environment's parameters."""
    names: tuple[str, ...]
    """theta's."""
    own_lifetimes: bool

    def metrics(self) -> tuple[str, ...]:
        """Names of metrics."""
        from metaloop_rl.learners.lpg import TERMS, VALUE_LOSSES

        return ("return", *VALUE_LOSSES, *TERMS)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Loss, fitness and metrics `[row]` of whole lives; those that ended leave the batch.

        Args:
            tensors: theta's leaves, one set or `[row, ...]`; the environment's parameters, lifetimes and keys `[row]`.
        """
        n = len(self.names)
        theta = dict(zip(self.names, tensors[:n], strict=True))
        lifetime, order = tensors[-2].sort(descending=True, stable=True)
        keys = Key(tensors[-1][order])
        tasks = Worlds(self.env, self.parameters(*(part[order] for part in tensors[n:-2])))
        tasks = tasks._replace(lifetime=lifetime) if self.own_lifetimes else tasks
        if theta["pi.weight"].ndim == 3:
            theta = tree.index(theta, order)
        state = self._ends(theta, tasks, keys, lifetime)
        out = self.learner.evaluate(theta, state, tasks, keys.fold("evaluate", lifetime))
        loss, fitness, metrics = tree.index(to_rows(out), order.argsort())
        return loss, fitness, *(metrics[name] for name in self.metrics())

    def _ends(self, theta: Theta, tasks: Worlds, keys: Key, lifetime: Tensor) -> Any:
        """The states that lives end in; rows are sorted by lifetime, the longest first."""
        own, ended = theta["pi.weight"].ndim == 3, []
        state = self.learner.begin(theta, tasks, keys.fold("begin"))
        for k in range(int(lifetime.max())):
            staying = int((lifetime > k).sum())
            if staying < len(lifetime):
                ended.append(tree.index(state, slice(staying, None)))
                state, tasks, keys, lifetime = tree.index((state, tasks, keys, lifetime), slice(staying))
                theta = tree.index(theta, slice(staying)) if own else theta
            clock = Clock(torch.full_like(lifetime, k), lifetime)
            state = self.learner.step(theta, state, tasks, clock, keys.fold("step", k))
        return tree.concatenate([state, *reversed(ended)])


class _Lives(torch.autograd.Function):
    """`Lives` with a rule for `vmap`: the axis of rules and that of tasks as one."""

    @staticmethod
    def forward(lives: Lives, stacked: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        return lives(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: there is no gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, lives: Lives, stacked: bool, *tensors: Tensor) -> Any:
        """theta's leaves `[rule, ...]`, the rest `[rule, task, ...]`, as rows."""
        n, axes = info.batch_size, in_dims[2:]
        whole = [
            value.expand(n, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(tensors, axes, strict=True)
        ]
        count, tasks = len(lives.names), whole[-1].shape[1]
        rules = [value.repeat_interleave(tasks, 0) for value in whole[:count]] if not stacked else whole[:count]
        rows = _Lives.apply(lives, True, *rules, *(part.flatten(0, 1) for part in whole[count:]))
        return tuple(part.unflatten(0, (n, tasks)) for part in rows), (0,) * len(rows)
