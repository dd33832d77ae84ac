"""Environment steps per second: tensor environments beside Gymnasium's vector environments and gymnax, on one task.

Every way takes the same number of environment steps with actions drawn before, episodes begin anew where they end, and
each way has its best batch size, found first. gymnax runs in a process of its own, in an interpreter that has it:
`--gymnax PATH`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import gymnasium
import torch
from common import Answering, Comparison, arguments, compare, report
from metaloop import Key
from metaloop_rl.adapters import GymnasiumVectorEnv
from metaloop_rl.envs.acrobot import Acrobot
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.env import EnvState, Step, TensorEnv
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.mountain_car import MountainCar
from metaloop_rl.envs.pendulum import Pendulum

AnyEnv = TensorEnv[Any, Any]


class Task(NamedTuple):
    """One environment under both names."""

    name: str
    env: AnyEnv
    scale: float
    """Gymnasium's actions are ours times this."""
    few: int
    """Environment steps of a call, where Python steps one environment after another."""


TASKS = (
    Task("CartPole-v1", CartPole(), 1.0, 100_000),
    Task("Acrobot-v1", Acrobot(), 1.0, 10_000),
    Task("MountainCar-v0", MountainCar(), 1.0, 100_000),
    Task("Pendulum-v1", Pendulum(), 2.0, 50_000),
)
MANY = 1_000_000
"""Environment steps of a call, where a batch is stepped at once."""
WIDE, NARROW = (1_000, 10_000, 100_000), (4, 16, 64)
"""Batch sizes to choose from."""


def some_actions(env: AnyEnv, n: int) -> list[torch.Tensor]:
    """Actions of 8 steps, to be used in turn."""
    keys = [Key.of(t).split(n) for t in range(8)]
    return [k.randint(0, env.actions) if env.discrete else k.uniform(env.actions, low=-1.0, high=1.0) for k in keys]


class Tensors:
    """A tensor environment stepped with `step_and_reset`; compiled, its keys are made inside the graph."""

    def __init__(self, env: AnyEnv, n: int, count: int, *, compiled: bool = False) -> None:
        self.steps, self.n = max(1, count // n), n
        self.actions, self.rows = some_actions(env, n), torch.arange(n)
        state, _ = env.reset(Key.of(0), n)
        # Somewhere in their episodes: ends that fall on one step would spare most steps all work for new episodes.
        self.state = state._replace(time=Key.of(0).fold("time").randint(0, env.max_steps, n))
        self.calls = 0

        def step(state: EnvState, action: torch.Tensor, key: torch.Tensor) -> Step:
            return env.step_and_reset(state, action, Key(key).fold(self.rows))  # all of it, or a compiler drops a part

        self.step = torch.compile(step, fullgraph=True) if compiled else step

    @torch.no_grad()
    def __call__(self) -> None:
        self.calls += 1
        keys = Key.of(self.calls).split(self.steps).data
        for t in range(self.steps):
            self.state = self.step(self.state, self.actions[t % 8], keys[t]).state


class Vector:
    """A vector environment of Gymnasium's interface."""

    def __init__(self, envs: gymnasium.vector.VectorEnv[Any, Any, Any], task: Task, count: int, scale: float) -> None:
        self.envs, self.n = envs, envs.num_envs
        self.steps = max(1, count // self.n)
        self.actions = [part.numpy() * (1 if task.env.discrete else scale) for part in some_actions(task.env, self.n)]
        self.envs.reset(seed=0)

    def __call__(self) -> None:
        for t in range(self.steps):
            self.envs.step(self.actions[t % 8])


class Gymnax(Answering):
    """gymnax in another interpreter."""

    def __init__(self, python: str, name: str, threads: int, n: int, count: int) -> None:
        super().__init__(python, "gymnax_peer.py", name, n, max(1, count // n), threads)
        self.n = n


Way = Tensors | Vector | Gymnax


def best(make: Callable[[int], Way], sizes: Sequence[int], count: int) -> tuple[Way, dict[int, float]]:
    """The way at its best batch size, and millions of steps per second at each."""
    found: dict[int, tuple[float, Way]] = {}
    for n in sizes:
        way = make(n)
        way()
        times = []
        for _ in range(3):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
        found[n] = ((count // n) * n / min(times) / 1e6, way)
    chosen = max(found, key=lambda n: found[n][0])
    for n, (_, way) in found.items():
        if n != chosen:
            close(way)
    return found[chosen][1], {n: rate for n, (rate, _) in found.items()}


def close(way: Way) -> None:
    """Let go of processes."""
    if isinstance(way, Vector):
        way.envs.close()
    elif isinstance(way, Gymnax):
        way.close()


class Field:
    """All ways to step one task, each at its best batch size, and what was found on the way."""

    def __init__(self, task: Task, rounds: int, facts: dict[str, Any]) -> None:
        self.task, self.rounds, self.facts = task, rounds, facts

    @contextmanager
    def best(self, label: str, make: Callable[[int, int], Way], sizes: Sequence[int], count: int) -> Iterator[Any]:
        """A labelled way; its rates go to the facts."""
        print(f"{self.task.name}: {label} ...", file=sys.stderr, flush=True)
        way, rates = best(lambda n: make(n, count), sizes, count)
        told = ", ".join(f"{rate:.3g} at {n}" for n, rate in rates.items())
        self.facts[f"{self.task.name}, {label} (million steps/s)"] = told
        try:
            yield f"{label}, {way.n}", way
        finally:
            close(way)

    def beside(self, ours: tuple[str, Way], peer: tuple[str, Way], calls: int = 1) -> Comparison:
        """Time the same number of steps both ways; ours several times a round where that is quick."""
        return compare(self.task.name, ours, peer, rounds=self.rounds, calls=(calls, 1))


def measured(task: Task, given: Any, python: str | None, facts: dict[str, Any]) -> list[Comparison]:
    """Everything about one task."""
    field, rows = Field(task, given.rounds, facts), []

    def tensors(n: int, count: int) -> Tensors:
        return Tensors(task.env, n, count)

    def compiled(n: int, count: int) -> Tensors:
        torch.compiler.reset()
        return Tensors(task.env, n, count, compiled=True)

    def adapted(n: int, count: int) -> Vector:
        return Vector(GymnasiumVectorEnv(task.env, n), task, count, 1.0)

    def made(mode: str, n: int, count: int) -> Vector:
        return Vector(gymnasium.make_vec(task.name, n, vectorization_mode=mode), task, count, task.scale)

    with field.best("tensors", tensors, WIDE, MANY) as eager, field.best("compiled", compiled, WIDE, MANY) as quick:
        if gymnasium.spec(task.name).vector_entry_point is not None:
            with field.best("Gymnasium's native vector", partial(made, "vector_entry_point"), WIDE, MANY) as peer:
                rows += [field.beside(ours, peer) for ours in (eager, quick)]
                with field.best("GymnasiumVectorEnv", adapted, WIDE, MANY) as ours:
                    rows.append(field.beside(ours, peer))
        if python:
            with field.best("gymnax", partial(Gymnax, python, task.name, given.threads), WIDE, MANY) as peer:
                facts["gymnax"] = peer[1].version
                rows += [field.beside(ours, peer) for ours in (eager, quick)]
    for mode, count in (("sync", task.few), ("async", task.few // 10)):
        with field.best(f"Gymnasium {mode}", partial(made, mode), NARROW, count) as peer:
            wide = tensors(min(eager[1].n, count), count)
            rows.append(field.beside((f"tensors, {wide.n}", wide), peer, calls=20))
    return rows


def grids(facts: dict[str, Any]) -> None:
    """Grid worlds, every row another level."""
    env = grid_family("all").but(view="index")
    _, rates = best(lambda n: Tensors(env, n, MANY), WIDE[:2], MANY)
    facts["grid worlds of all sizes, tensors (million steps/s)"] = ", ".join(
        f"{r:.3g} at {n}" for n, r in rates.items()
    )


def main() -> None:
    """Compare, and print."""
    options = {
        "only": "only tasks with this in their name",
        "gymnax": "a Python interpreter that has gymnax and JAX, where this one has not",
    }
    given = arguments(__doc__ or "", options, rounds=10)
    python = given.gymnax or (sys.executable if find_spec("gymnax") else None)
    facts: dict[str, Any] = {} if python else {"gymnax": "not installed here, and no --gymnax given: not compared"}
    rows: list[Comparison] = []
    for task in TASKS:
        if given.only in task.name:
            rows += measured(task, given, python, facts)
    grids(facts)
    report("Environment steps", rows, facts, given)


if __name__ == "__main__":
    main()
