"""Small meta-optimizers of every kind (gradients, windows of long lives, populations, programs), and experiments."""

from __future__ import annotations

from typing import Any

import torch
from metaloop import Experiment, tree
from metaloop.key import Key
from metaloop.learner import AnyLearner, to_rows
from metaloop.meta_optimizer import MetaOptimizer, needs_gradient
from metaloop.objective import Objective
from metaloop.outcome import Outcome
from metaloop.testing.toys import Descent, Quadratics
from torch import Tensor

Theta = dict[str, Tensor]
State = dict[str, Any]


class Sgd(MetaOptimizer[Theta, State]):
    """Gradient descent with momentum; the objective takes the gradient."""

    lr: float = 0.05
    momentum: float = 0.5

    def check(self, learner: AnyLearner) -> None:
        needs_gradient(self, learner)

    def begin(self, theta: Theta, key: Key) -> State:
        return {"velocity": tree.map_tensors(torch.zeros_like, theta)}

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        slope, out = objective.grad(theta)
        if not self.momentum:
            return {name: value - self.lr * slope[name] for name, value in theta.items()}, state, out
        velocity = {name: self.momentum * v + slope[name] for name, v in state["velocity"].items()}
        return {name: value - self.lr * velocity[name] for name, value in theta.items()}, {"velocity": velocity}, out


class Windows(MetaOptimizer[Theta, State]):
    """Truncated gradients: lives go on from one outer step to the next, in the meta-state."""

    lr: float = 0.02
    window: int = 2

    def check(self, learner: AnyLearner) -> None:
        needs_gradient(self, learner)

    def begin(self, theta: Theta, key: Key) -> State:
        return {"carry": None}

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        slope, out, carry = objective.unroll_grad(theta, state["carry"], self.window)
        return {name: value - self.lr * slope[name] for name, value in theta.items()}, {"carry": carry}, out


class Search(MetaOptimizer[Theta, State]):
    """A population around theta; the best one is checked on fresh tasks before it is taken. Needs no gradient."""

    sigma: float = 0.1
    population: int = 4

    def begin(self, theta: Theta, key: Key) -> State:
        return {"taken": 0, "history": []}

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        noise = {name: key.fold(name).normal(self.population, *value.shape) for name, value in theta.items()}
        population = {name: value + self.sigma * noise[name] for name, value in theta.items()}
        out = objective.many(population, chunk=2)
        best = int(out.fitness.mean(1).argmax())
        candidate = tree.index(population, best)
        retest = objective.fresh("retest", 3)
        better = bool(retest(candidate).fitness.mean() > retest(theta).fitness.mean())
        state = {"taken": state["taken"] + better, "history": [*state["history"], best]}
        return candidate if better else theta, state, Outcome(*tree.index(to_rows(out), best))


class Mirrored(MetaOptimizer[Theta, State]):
    """Antithetic windows of long lives, one candidate for each task, both halves in the meta-state."""

    lr: float = 0.02
    sigma: float = 0.1

    def begin(self, theta: Theta, key: Key) -> State:
        return {"up": None, "down": None}

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        noise = {name: key.fold(name).normal(objective.n, *value.shape) for name, value in theta.items()}
        moved = [{name: value + sign * self.sigma * noise[name] for name, value in theta.items()} for sign in (1, -1)]
        up, plus = objective.unroll(moved[0], state["up"], 2, each=True)
        down, minus = objective.unroll(moved[1], state["down"], 2, each=True)
        weight = (down.fitness - up.fitness) / (2 * self.sigma)
        slope = {name: torch.einsum("t,t...->...", weight, noise[name]) / objective.n for name in theta}
        return {n: v - self.lr * slope[n] for n, v in theta.items()}, {"up": plus, "down": minus}, up


class Anneal(MetaOptimizer[Any, State]):
    """Changes a program, here a word, and remembers every one that was tried."""

    def check(self, learner: AnyLearner) -> None:
        assert learner.theta_kind == "object"

    def begin(self, theta: Any, key: Key) -> State:
        return {"archive": {}, "temperature": 1.0}

    def step(self, theta: Any, state: State, objective: Objective[Any], key: Key) -> tuple[Any, State, Outcome]:
        place, letter = int(key.fold("place").randint(0, len(theta))), int(key.fold("letter").randint(0, 8))
        other = theta[:place] + "abcdefgh"[letter] + theta[place + 1 :]
        out = objective.many([theta, other])
        gain = float(out.fitness[1].mean() - out.fitness[0].mean())
        taken = gain + state["temperature"] * float(key.fold("luck").normal()) > 0
        archive = state["archive"] | {other: (len(state["archive"]), gain)}
        rows = tree.index(to_rows(out), int(taken))
        return (
            other if taken else theta,
            {"archive": archive, "temperature": 0.9 * state["temperature"]},
            Outcome(*rows),
        )


class Rollout(MetaOptimizer[Any, State]):
    """Windows of lives of objects, kept in the meta-state; theta stays as it is."""

    def check(self, learner: AnyLearner) -> None:
        """Any learner."""

    def begin(self, theta: Any, key: Key) -> State:
        return {"carry": None}

    def step(self, theta: Any, state: State, objective: Objective[Any], key: Key) -> tuple[Any, State, Outcome]:
        out, carry = objective.unroll(theta, state["carry"], 1, measure="end")
        return theta, {"carry": carry}, out


def small(**changes: Any) -> Experiment:
    """A short experiment with some settings changed."""
    settings: dict[str, Any] = {
        "tasks": Quadratics(),
        "learner": Descent(),
        "meta_optimizer": Sgd(),
        "steps": 6,
        "task_batch": 3,
        "device": "cpu",
    }
    return Experiment(**(settings | changes))


def steps_with(result: Any, name: str) -> list[int]:
    """The steps whose rows have this metric."""
    return [row["step"] for row in result.history if name in row]
