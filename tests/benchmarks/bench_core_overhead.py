"""What the core adds to an outer step: to a MAML step of some 25 ms, and to a step that does nothing.

The hand-written loop makes the same torch calls on the same tasks: one `vmap` around the inner loop,
one backward pass, one `torch.optim` step.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from common import arguments, compare, microseconds, report
from metaloop.experiment import Experiment
from metaloop.functional import call, parameters, skeleton
from metaloop.key import Key
from metaloop.learner import Learner, PerTask
from metaloop.meta_optimizer import MetaOptimizer
from metaloop.objective import Objective
from metaloop.outcome import Clock, Draw, Episode, Outcome, outcome
from metaloop.specs import ObjectiveSpec, Spec
from metaloop.tasks import TaskFamily
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import Sinusoid
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import mse_loss

Theta = dict[str, Tensor]
LR = 1e-3


class Maml(PerTask[Theta, Episode, Theta]):
    """MAML, as the author of a learner writes it first."""

    steps: int = 5
    inner_lr: float = 0.01

    @cached_property
    def module(self) -> nn.Module:
        return skeleton(make)

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return parameters(make, key)

    def loss(self, own: Theta, x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(call(self.module, own, x), y)

    def begin_one(self, theta: Theta, task: Episode, key: Key) -> Theta:
        return theta

    def step_one(self, theta: Theta, state: Theta, task: Episode, clock: Clock, key: Key) -> Theta:
        slope = grad(self.loss)(state, task.support_x, task.support_y)
        return {name: value - self.inner_lr * slope[name] for name, value in state.items()}

    def evaluate_one(self, theta: Theta, state: Theta, task: Episode, key: Key) -> Outcome:
        return outcome(self.loss(state, task.query_x, task.query_y))


def make() -> nn.Module:
    """The usual network for sinusoids."""
    return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


class Nothing(TaskFamily[Tensor, Any]):
    """Tasks without content."""

    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=1)

    def sample(self, state: Any, n: int, key: Key) -> Draw[Tensor]:
        return Draw(torch.zeros(n))


class Idle(Learner[Theta, Tensor, Tensor]):
    """Learns nothing: its loss is zero."""

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"w": torch.zeros(())}

    def begin(self, theta: Theta, tasks: Tensor, keys: Key) -> Tensor:
        return tasks

    def evaluate(self, theta: Theta, state: Tensor, tasks: Tensor, keys: Key) -> Outcome:
        return outcome(tasks)


class Look(MetaOptimizer[Theta, dict[str, Any]]):
    """Evaluates theta and keeps it."""

    def step(
        self, theta: Theta, state: dict[str, Any], objective: Objective[Theta], key: Key
    ) -> tuple[Theta, dict[str, Any], Outcome]:
        return theta, state, objective(theta)


class Advancing:
    """`Experiment.advance`, again and again."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.progress = experiment, experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)


class ByHand:
    """The loop that someone would write without metaloop."""

    def __init__(self, experiment: Experiment, learner: Maml) -> None:
        self.family, self.n, self.root = experiment.tasks, experiment.batch, experiment.root
        self.steps, self.inner_lr = learner.steps, learner.inner_lr
        self.module = make().requires_grad_(False)
        self.theta = {name: value.requires_grad_() for name, value in experiment.begin().theta.items()}
        self.optimizer = torch.optim.Adam(self.theta.values(), lr=LR)
        self.step = 0

    def loss(self, own: Theta, x: Tensor, y: Tensor) -> Tensor:
        return mse_loss(functional_call(self.module, own, (x,)), y)

    def meta_loss(self, theta: Theta, tasks: Episode) -> Tensor:
        def one(task: Episode) -> Tensor:
            own = theta
            for _ in range(self.steps):
                slope = grad(self.loss)(own, task.support_x, task.support_y)
                own = {name: value - self.inner_lr * slope[name] for name, value in own.items()}
            return self.loss(own, task.query_x, task.query_y)

        return vmap(one)(tasks).mean()

    def __call__(self) -> None:
        tasks = self.family.sample({}, self.n, self.root.fold("step", self.step).fold("tasks")).tasks
        self.optimizer.zero_grad()
        self.meta_loss(self.theta, tasks).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1


def largest_difference(one: Theta, two: Theta) -> float:
    """Largest absolute difference between two thetas."""
    return max(float((one[name] - two[name].detach()).abs().max()) for name in one)


def run_cost(steps: tuple[int, int], rounds: int = 5) -> float:
    """Microseconds per step of a whole `Experiment.run` (metrics written, no checkpoints) that does nothing.

    The median over rounds of a long run's time beyond a short one's; the first run, which imports, is not counted.
    """
    run_seconds(1)
    slopes = [(run_seconds(steps[1]) - run_seconds(steps[0])) / (steps[1] - steps[0]) for _ in range(rounds)]
    return 1e6 * statistics.median(slopes)


def run_seconds(steps: int) -> float:
    """How long a run of so many steps of nothing takes."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        idle(Look(), steps).run(root=Path(folder), quiet=True)
        return time.perf_counter() - started


def idle(meta_optimizer: Any, steps: int = 10**6) -> Experiment:
    """An experiment that does nothing."""
    return Experiment(
        tasks=Nothing(),
        learner=Idle(),
        meta_optimizer=meta_optimizer,
        steps=steps,
        checkpoint_every=steps,
        device="cpu",
    )


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "")
    learner = Maml()
    experiment = Experiment(
        tasks=Sinusoid(shots=10, queries=10),
        learner=learner,
        meta_optimizer=Gradient(lr=LR),
        steps=10**6,
        task_batch=112,
        device="cpu",
    )
    ours, theirs = Advancing(experiment), ByHand(experiment, learner)
    for _ in range(3):
        ours()
        theirs()
    facts: dict[str, Any] = {
        "largest difference of theta after 3 steps": largest_difference(ours.progress.theta, theirs.theta)
    }
    rows = [
        compare("MAML step", ("hand-written", theirs), ("Experiment.advance", ours), rounds=given.rounds, calls=(4, 4))
    ]
    for name, meta_optimizer in (("evaluates only", Look()), ("Gradient, SGD", Gradient(optimizer="SGD"))):
        middle, spread = microseconds(Advancing(idle(meta_optimizer)))
        facts[f"advance with nothing to do, {name} (us)"] = f"{middle:.0f} (interquartile range {spread:.0f})"
    facts["run with nothing to do, per step (us)"] = run_cost((500, 3000))
    report("Overhead of the core", rows, facts, given)


if __name__ == "__main__":
    main()
