"""What `metaloop run basics` runs."""

from __future__ import annotations

from metaloop.experiment import Experiment

from metaloop_basics.learners.maml import Maml
from metaloop_basics.learners.protonet import ProtoNet
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.models import ConvNet
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.regression import Sinusoid


def sinusoids(profile: str) -> Experiment:
    """MAML on sinusoids (Finn et al. 2017, section 5.1); `gpu` has the paper's 70 000 steps of 25 tasks."""
    paper = profile == "gpu"
    return Experiment(
        name="basics/maml",
        tasks=Sinusoid(),
        learner=Maml(steps=1 if paper else 5),
        meta_optimizer=Gradient(lr=1e-3),
        steps=70_000 if paper else 1500,
        task_batch=25 if paper else 32,
        eval_tasks=600,
        eval_every=5000 if paper else 250,
    )


def digits(profile: str) -> Experiment:
    """Prototypical networks (Snell et al. 2017): learned on the digits 0 to 5 in four rotations, judged on 6 to 9.

    Without rotations there are too few classes to learn from: accuracy on new digits is 0.86 instead of 0.91.
    """
    large = profile == "gpu"
    tasks = FewShotDigits(ways=3, shots=5, queries=5, classes=(0, 1, 2, 3, 4, 5), rotations=True)
    return Experiment(
        name="basics/digits",
        tasks=tasks,
        learner=ProtoNet(ways=3, model=ConvNet(channels=(64, 64, 64) if large else (32, 32, 32))),
        meta_optimizer=Gradient(lr=1e-3),
        steps=5000 if large else 200,
        task_batch=64 if large else 8,
        eval_tasks=400,
        eval_on=tasks.but(classes=(6, 7, 8, 9), rotations=False),
        eval_every=1000 if large else 50,
    )
