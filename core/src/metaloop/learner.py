"""The inner loop: begin, step, step, ..., evaluate, over a batch of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import vmap

from metaloop import tree
from metaloop.component import Component
from metaloop.key import Key
from metaloop.outcome import Clock, Outcome
from metaloop.precision import default_dtype
from metaloop.specs import Spec

Theta = TypeVar("Theta")
Tasks = TypeVar("Tasks")
State = TypeVar("State")
Task = TypeVar("Task")

Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[tuple[int, Any]]]
"""An executor's `map`: results with their item's position, as they finish."""


class Learner(Component, Generic[Theta, Tasks, State]):
    """How one adapts to a task, given meta-parameters theta.

    Implement the methods over a batch of tasks here; `PerTask` and `PerObject` are for learners written for one task.
    A row's result may depend on that row's task and key only: the conformance suite checks that a batch equals its
    tasks one by one.
    """

    differentiable: ClassVar[bool] = True
    """Whether the loss can be differentiated with respect to theta."""
    stackable: ClassVar[bool] = True
    """Whether thetas may be stacked along a leading axis and the learner run under `vmap` over them."""
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "tensors"
    """`tensors`: a flat dict of tensors; `object`: any value a checkpoint can hold; `none`: nothing to meta-learn."""

    steps: int = Field(default=0, ge=0, description="inner steps of one adaptation")

    def check(self, spec: Spec) -> None:
        """Accept a kind of task, or raise `Incompatible` with the reason; called before any compute."""
        raise NotImplementedError(f"{type(self).__name__} must say which specs it accepts")

    def init(self, spec: Spec, key: Key) -> Theta:
        """First meta-parameters, on `key.device`."""
        return {}  # type: ignore[return-value]

    def lifetime(self, tasks: Tasks) -> int | Tensor:
        """Inner steps of each task's life: one number, or `[task]` int64 where tasks differ."""
        return self.steps

    def begin(self, theta: Theta, tasks: Tasks, keys: Key) -> State:
        """The state before the first inner step; `keys` `[task]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin")

    def step(self, theta: Theta, state: State, tasks: Tasks, clock: Clock, keys: Key) -> State:
        """One inner step. The given state is consumed: it may be changed in place and returned."""
        raise NotImplementedError(f"{type(self).__name__} has steps > 0 and must implement step")

    def evaluate(self, theta: Theta, state: State, tasks: Tasks, keys: Key) -> Outcome:
        """Judge the state on the tasks' held-out part; rows `[task]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement evaluate")

    # What follows is the core's; authors of learners leave it.

    def longest(self, tasks: Tasks) -> int:
        """The longest lifetime in a batch."""
        lifetime = self.lifetime(tasks)
        return lifetime if isinstance(lifetime, int) else int(lifetime.max())

    def live(self, theta: Theta, tasks: Tasks, keys: Key, longest: int | None = None) -> tuple[Outcome, State]:
        """A whole life: begin, all inner steps, evaluate. `longest` is given where tasks are under `vmap`."""
        n, lifetime = tree.length(tasks), self.lifetime(tasks)
        state = self.begin(theta, tasks, keys.fold("begin"))
        clock = Clock(torch.zeros(n, dtype=torch.int64, device=keys.device), per_task(lifetime, n, keys.device))
        for k in range(self.longest(tasks) if longest is None else longest):
            now = clock._replace(step=clock.step + k) if k else clock
            before = state if isinstance(lifetime, int) else tree.clone(state)  # the step may change it in place
            state = self.step(theta, state, tasks, now, keys.fold("step", k))
            state = state if isinstance(lifetime, int) else tree.where(now.step < lifetime, state, before)
        return self.evaluate(theta, state, tasks, keys.fold("evaluate", lifetime)), state

    def outcomes(self, theta: Theta, tasks: Tasks, keys: Key, longest: int | None = None) -> Outcome:
        """What `live` gives, for those who don't need the last state."""
        return self.live(theta, tasks, keys, longest)[0]

    def carry_on(
        self, theta: Theta, state: State, tasks: Tasks, clock: Clock, keys: Key, *, all_alive: bool = False
    ) -> tuple[State, Clock]:
        """One inner step of lives that may be at different times; those past their lifetime stay as they are.

        Where `all_alive` says that there are none, the state may change its structure (an archive that grows).
        """
        before = state if all_alive else tree.clone(state)  # the step may change it in place
        state = self.step(theta, state, tasks, clock, keys.fold("step").fold(clock.step))
        if all_alive:
            return state, clock._replace(step=clock.step + 1)
        alive = clock.step < clock.lifetime
        return tree.where(alive, state, before), clock._replace(step=clock.step + alive)

    def measure(self, theta: Theta, state: State, tasks: Tasks, clock: Clock, keys: Key) -> Outcome:
        """`evaluate` in the middle of lives."""
        return self.evaluate(theta, state, tasks, keys.fold("evaluate").fold(clock.step))


class PerTask(Learner[Theta, Tasks, State], Generic[Theta, Tasks, State]):
    """A learner written for one tensor task (the tasks' type without its leading axis).

    The core batches it with one `vmap` around the whole inner loop.
    """

    def begin_one(self, theta: Theta, task: Tasks, key: Key) -> State:
        """The state before the first inner step."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin_one")

    def step_one(self, theta: Theta, state: State, task: Tasks, clock: Clock, key: Key) -> State:
        """One inner step; `clock` holds scalars."""
        raise NotImplementedError(f"{type(self).__name__} has steps > 0 and must implement step_one")

    def evaluate_one(self, theta: Theta, state: State, task: Tasks, key: Key) -> Outcome:
        """Judge the state on the task's held-out part; scalars."""
        raise NotImplementedError(f"{type(self).__name__} must implement evaluate_one")

    def begin(self, theta: Theta, tasks: Tasks, keys: Key) -> State:
        """`begin_one` over all tasks."""
        self.warmed  # noqa: B018 (builds cached modules)
        state: State = vmap(self.begin_one, in_dims=(None, 0, 0))(theta, tasks, keys)
        return state

    def step(self, theta: Theta, state: State, tasks: Tasks, clock: Clock, keys: Key) -> State:
        """`step_one` over all tasks."""
        self.warmed  # noqa: B018 (builds cached modules)
        new: State = vmap(self.step_one, in_dims=(None, 0, 0, 0, 0))(theta, state, tasks, clock, keys)
        return new

    def evaluate(self, theta: Theta, state: State, tasks: Tasks, keys: Key) -> Outcome:
        """`evaluate_one` over all tasks."""
        self.warmed  # noqa: B018 (builds cached modules)

        def rows(state: State, task: Tasks, key: Key) -> tuple[Rows, tuple[Tensor, ...]]:
            out = self.evaluate_one(theta, state, task, key)
            return to_rows(out), (() if out.done is None else (out.done,))

        found, done = vmap(rows)(state, tasks, keys)
        return from_rows(found)._replace(done=done[0] if done else None)

    def live(self, theta: Theta, tasks: Tasks, keys: Key, longest: int | None = None) -> tuple[Outcome, State]:
        """A whole life of every task under one `vmap`: a `vmap` per method costs a fifth more."""
        rows, state = self._lives(lambda out, state: (to_rows(out), state), theta, tasks, keys, longest)
        return from_rows(rows), state

    def outcomes(self, theta: Theta, tasks: Tasks, keys: Key, longest: int | None = None) -> Outcome:
        """What `live` gives, but for the states, which then need not leave the `vmap`."""
        return from_rows(self._lives(lambda out, _: to_rows(out), theta, tasks, keys, longest))

    def _lives(
        self, kept: Callable[[Outcome, State], Any], theta: Theta, tasks: Tasks, keys: Key, longest: int | None
    ) -> Any:
        self.warmed  # noqa: B018 (builds cached modules)
        lifetime = self.lifetime(tasks)
        longest = self.longest(tasks) if longest is None else longest
        rows_of_keys, key_of = keys.spread()
        times = torch.arange(longest, device=keys.device).unbind()

        def life(task: Tasks, row: Tensor, end: Tensor, same: bool) -> Any:
            key = key_of(row)
            state, stepping = self.begin_one(theta, task, key.fold("begin")), key.fold("step")
            for k, time in enumerate(times):
                clock = Clock(time, end)
                before = state if same else tree.clone(state)  # the step may change it in place
                state = self.step_one(theta, state, task, clock, stepping.fold(k))
                state = state if same else tree.where(clock.step < end, state, before)
            last = key.fold("evaluate", lifetime if isinstance(lifetime, int) else end)
            return kept(self.evaluate_one(theta, state, task, last), state)

        # Where all lives are equally long, clocks are the same for all tasks: cheaper than a batch of them.
        if isinstance(lifetime, int):
            end = torch.tensor(lifetime, device=keys.device)
            return vmap(lambda task, row: life(task, row, end, True))(tasks, rows_of_keys)
        ends = per_task(lifetime, len(keys), keys.device)
        return vmap(lambda task, row, end: life(task, row, end, False))(tasks, rows_of_keys, ends)


class PerObject(Learner[Theta, list[Task], list[State]], Generic[Theta, Task, State]):
    """A learner written for one task that is a plain value (a world, a page, an exercise).

    Simulators, browsers and sandboxes are opened in `begin_one` and live in the state. Lives run one after the other,
    or spread over workers by the experiment's executor.
    """

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False

    def begin_one(self, theta: Theta, task: Task, key: Key) -> State:
        """The state before the first inner step."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin_one")

    def step_one(self, theta: Theta, state: State, task: Task, clock: Clock, key: Key) -> State:
        """One inner step; `clock` holds scalars."""
        raise NotImplementedError(f"{type(self).__name__} has steps > 0 and must implement step_one")

    def evaluate_one(self, theta: Theta, state: State, task: Task, key: Key) -> Outcome:
        """Judge the state; scalars."""
        raise NotImplementedError(f"{type(self).__name__} must implement evaluate_one")

    def begin(self, theta: Theta, tasks: list[Task], keys: Key) -> list[State]:
        """`begin_one` on each task."""
        return [self.begin_one(theta, task, keys[i]) for i, task in enumerate(tasks)]

    def step(self, theta: Theta, state: list[State], tasks: list[Task], clock: Clock, keys: Key) -> list[State]:
        """`step_one` on each task that is still alive."""
        return [
            self.step_one(theta, state[i], task, tree.index(clock, i), keys[i])
            if clock.step[i] < clock.lifetime[i]
            else state[i]
            for i, task in enumerate(tasks)
        ]

    def evaluate(self, theta: Theta, state: list[State], tasks: list[Task], keys: Key) -> Outcome:
        """`evaluate_one` on each task."""
        return join([self.evaluate_one(theta, state[i], task, keys[i]) for i, task in enumerate(tasks)])

    def carry_on(
        self,
        theta: Theta,
        state: list[State],
        tasks: list[Task],
        clock: Clock,
        keys: Key,
        *,
        all_alive: bool = False,
    ) -> tuple[list[State], Clock]:
        """One inner step of lives that may be at different times."""
        new = self.step(theta, state, tasks, clock, keys.fold("step").fold(clock.step))
        return new, clock._replace(step=clock.step + (clock.step < clock.lifetime))

    def live(
        self, theta: Theta, tasks: list[Task], keys: Key, longest: int | None = None, spread: Spread | None = None
    ) -> tuple[Outcome, list[State]]:
        """Whole lives, one by one or spread; states come back only where lives were not spread."""
        lifetime = self.lifetime(tasks)
        ends = per_task(lifetime, len(tasks), torch.device("cpu")).tolist()
        items = [(task, int(ends[i]), keys[i].data.cpu()) for i, task in enumerate(tasks)]
        if spread is None:
            lives = [self._life(theta, *item) for item in items]
            return join([out for out, _ in lives]), [state for _, state in lives]
        life = partial(_outcome_of_life, self, torch.get_default_dtype(), theta)  # theta travels with what is shared
        outcomes: dict[int, Outcome] = dict(spread(life, items))
        return join([outcomes[i] for i in range(len(items))]), []

    def _life(self, theta: Theta, task: Task, end: int, data: Tensor) -> tuple[Outcome, State]:
        key, lifetime = Key(data), torch.tensor(end)
        state = self.begin_one(theta, task, key.fold("begin"))
        for k in range(end):
            state = self.step_one(theta, state, task, Clock(torch.tensor(k), lifetime), key.fold("step", k))
        return self.evaluate_one(theta, state, task, key.fold("evaluate", end)), state


@runtime_checkable
class Adapts(Protocol[Theta]):
    """A learner that can say which part of its state is an adapted theta (Reptile needs it)."""

    def adapted(self, theta: Theta, state: Any) -> Theta:
        """The adapted theta, every leaf with a leading task axis."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A learner that can predict at new inputs once it has adapted."""

    def predict(self, theta: Any, state: Any, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, n, outputs]` at inputs `[task, n, *inputs]`."""
        ...


@runtime_checkable
class HasModule(Protocol):
    """A learner whose theta is the parameters of an `nn.Module`."""

    def module_for(self, spec: Spec) -> nn.Module:
        """A module whose parameters are named as theta is (their values mean nothing)."""
        ...


Rows = tuple[Tensor, Tensor, dict[str, Tensor]]
"""What of an outcome can pass through `vmap` and `grad`: torch's tree takes None for a leaf."""


def to_rows(outcome: Outcome) -> Rows:
    """Loss, fitness and metrics."""
    return outcome.loss, outcome.fitness, outcome.metrics


def from_rows(rows: Rows) -> Outcome:
    """The reverse of `to_rows`."""
    return Outcome(*rows)


def join(outcomes: Sequence[Outcome]) -> Outcome:
    """One batch from outcomes of single tasks (scalars); `info` is kept where any has it."""
    loss, fitness, metrics = tree.stack([to_rows(out) for out in outcomes])
    infos: Iterator[Any] = (out.info[0] if out.info else None for out in outcomes)
    info = list(infos) if any(out.info for out in outcomes) else None
    flags = [torch.zeros_like(out.loss, dtype=torch.bool) if out.done is None else out.done for out in outcomes]
    done = None if all(out.done is None for out in outcomes) else torch.stack(flags)
    return Outcome(loss, fitness, metrics, done, info)


def _outcome_of_life(
    learner: PerObject[Any, Any, Any], dtype: torch.dtype, theta: Any, item: tuple[Any, int, Tensor]
) -> Outcome:
    """For workers: a live state can't travel, its outcome can; the experiment's precision must."""
    with default_dtype(dtype), torch.no_grad():
        return learner._life(theta, *item)[0]


def per_task(lifetime: int | Tensor, n: int, device: torch.device) -> Tensor:
    """Lifetimes as one number per task, `[task]` int64."""
    if isinstance(lifetime, int):
        return torch.full((n,), lifetime, dtype=torch.int64, device=device)
    return lifetime.to(device=device, dtype=torch.int64)


if TYPE_CHECKING:
    AnyLearner = Learner[Any, Any, Any]
else:  # pydantic would take a parametrised generic for a class of its own
    AnyLearner = Learner
