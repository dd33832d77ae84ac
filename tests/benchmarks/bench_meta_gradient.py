"""Few-shot meta-training steps beside TorchOpt and higher: second-order MAML, 32 tasks a batch, Adam outside.

Model, tasks, shots, inner steps and optimizers are equal; tasks are drawn within the timed step by all. Before timing,
the meta-gradients are compared in float64.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from common import Comparison, arguments, compare, microseconds, report
from metaloop.experiment import Experiment
from metaloop.functional import filled
from metaloop.objective import TaskObjective
from metaloop_basics.learners.maml import Maml
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.models import ConvNet, Mlp
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.regression import Sinusoid
from peers import PEERS, Backward, Loss, gradients
from torch import nn

TASKS = 32
LR = 1e-3


class Setting(NamedTuple):
    """One model on one kind of task."""

    name: str
    learner: Maml
    experiment: Experiment
    loss: Loss
    slow: int
    """Its rounds are fewer by this factor."""


def settings() -> list[Setting]:
    """The MLP on sinusoids and the conv net on digits."""
    outer: dict[str, Any] = {"meta_optimizer": Gradient(lr=LR), "steps": 10**6, "task_batch": TASKS, "device": "cpu"}
    mlp = Maml(steps=5, inner_lr=0.01, model=Mlp(widths=(40, 40)))
    sinusoids = Experiment(tasks=Sinusoid(shots=10, queries=10), learner=mlp, **outer)
    conv = Maml(steps=5, inner_lr=0.1, model=ConvNet(channels=(32, 32, 32)))
    images = FewShotDigits(ways=5, shots=1, queries=5, classes=tuple(range(10)))
    digits = Experiment(tasks=images, learner=conv, **outer)
    return [
        Setting("MLP 1-40-40-1, 10 shots, 5 steps", mlp, sinusoids, nn.functional.mse_loss, 1),
        Setting("conv net 32-32-32 on 8x8, 5 ways, 1 shot, 5 steps", conv, digits, nn.functional.cross_entropy, 4),
    ]


class Advancing:
    """`Experiment.advance`, again and again."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.progress = experiment, experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)


class Training:
    """A peer's meta-training loop on the same tasks."""

    def __init__(self, setting: Setting, make: Callable[[nn.Module, Loss, float, int], Backward]) -> None:
        experiment, learner = setting.experiment, setting.learner
        self.family, self.root, self.step = experiment.tasks, experiment.root, 0
        self.module = filled(learner.module_for(self.family.spec), experiment.begin().theta)
        self.backward = make(self.module, setting.loss, learner.inner_lr, learner.steps)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=LR)

    def __call__(self) -> None:
        tasks = self.family.sample({}, TASKS, self.root.fold("step", self.step).fold("tasks")).tasks
        self.optimizer.zero_grad()
        self.backward(tasks)
        self.optimizer.step()
        self.step += 1


def disagreement(setting: Setting) -> dict[str, float]:
    """Largest difference between our meta-gradient and each peer's, in float64."""
    experiment = setting.experiment.but(precision="float64")
    with experiment.scope():
        theta = experiment.begin().theta
        objective: TaskObjective[Any] = TaskObjective(experiment.engine, experiment.tasks, {}, TASKS, experiment.root)
        ours, _ = objective.grad(theta)
        found = {}
        for name, make in PEERS.items():
            module = filled(setting.learner.module_for(experiment.tasks.spec), theta)
            backward = make(module, setting.loss, setting.learner.inner_lr, setting.learner.steps)
            theirs = gradients(module, backward, objective.draw.tasks)
            found[name] = max(float((ours[key] - theirs[key]).abs().max()) for key in ours)
    return found


def compiled(experiment: Experiment) -> tuple[Advancing, float]:
    """The same experiment under `torch.compile`, after its first steps, and how many seconds those took."""
    advancing = Advancing(experiment.but(compile=True))
    started = time.perf_counter()
    for _ in range(3):
        advancing()
    return advancing, time.perf_counter() - started


def parts(quick: Advancing) -> dict[str, float]:
    """What a compiled step is made of, in milliseconds: the optimizer takes the rest."""
    experiment, theta = quick.experiment, quick.progress.theta
    key = experiment.root.fold("parts")

    def objective() -> TaskObjective[Any]:
        return TaskObjective(experiment.engine, experiment.tasks, {}, TASKS, key)

    drawn = objective()
    drawn.draw  # noqa: B018 (drawn before the clock runs)
    found = {
        "the whole step": quick,
        "its gradient": lambda: drawn.grad(theta),
        "drawing tasks": lambda: objective().draw,
    }
    return {name: microseconds(part)[0] / 1e3 for name, part in found.items()}


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", {"only": "only settings with this in their name"})
    warnings.filterwarnings("ignore", category=SyntaxWarning)  # higher's source
    rows: list[Comparison] = []
    facts: dict[str, Any] = {}
    for setting in settings():
        if given.only not in setting.name:
            continue
        print(setting.name, "...", file=sys.stderr, flush=True)
        for name, difference in disagreement(setting).items():
            facts[f"{setting.name}: largest difference to the meta-gradient of {name}, float64"] = difference
        quick, seconds = compiled(setting.experiment)
        facts[f"{setting.name}: seconds to compile"] = seconds
        facts |= {f"{setting.name}: compiled, {name} (ms)": ms for name, ms in parts(quick).items()}
        ways = {
            "metaloop": (Advancing(setting.experiment), 3 // setting.slow + 1),
            "metaloop, compiled": (quick, 20 // setting.slow**2 + 1),
        }
        rounds = max(5, given.rounds // setting.slow)
        for name, make in PEERS.items():
            peer = Training(setting, make)
            rows += [
                compare(setting.name, (label, ours), (name, peer), rounds=rounds, calls=(calls, 1))
                for label, (ours, calls) in ways.items()
            ]
    report("A meta-training step", rows, facts, given)


if __name__ == "__main__":
    main()
