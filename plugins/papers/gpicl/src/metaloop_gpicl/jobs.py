"""The paper's experiments as jobs; `gpu` holds the paper's format and sizes, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop_basics.learners.maml import Maml
from metaloop_basics.learners.protonet import ProtoNet
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.models import Mlp

from metaloop_gpicl.analysis import unseen
from metaloop_gpicl.grids import Formats, Ladder, Plateau, Transition
from metaloop_gpicl.projection import BiasedTasks, RandomProjectionTasks
from metaloop_gpicl.recurrent import Lstm, OuterProductLstm
from metaloop_gpicl.stages import LearningCurves
from metaloop_gpicl.transformer import InContextTransformer
from metaloop_gpicl.vsml import Vsml

FIVE_WAYS = RandomProjectionTasks(vary=True)
"""Five of ten digits, contexts of up to 40 examples, tasks without end."""
TEN_WAYS = RandomProjectionTasks(ways=10, shots=60, vary=True)
PAPER = RandomProjectionTasks(ways=10, shots=99, queries=1, n_tasks=2**16)
"""Sequences of 100 places; the paper's images are MNIST's (see the README for these)."""
SHORT = RandomProjectionTasks(ways=2, shots=15, queries=1)
"""On which the causal format passes its plateau within minutes."""
SMALL = InContextTransformer()
LARGE = InContextTransformer(format="causal", positions="learned", width=512, layers=4, heads=8, feedforward=2048)


def adam(lr: float = 1e-3) -> Gradient:
    """Adam on clipped gradients."""
    return Gradient(optimizer="Adam", lr=lr, clip=1.0)


def papers_adam() -> Gradient:
    """Adam as a replication has it."""
    return Gradient(optimizer="Adam", lr=2e-4, options={"eps": 1e-10}, clip=2.0)


def training(steps: int, **fields: Any) -> Experiment:
    """A training of a transformer on batches of 32, evaluated about 25 times on unseen tasks from held-out images."""
    defaults: dict[str, Any] = {
        "tasks": FIVE_WAYS,
        "learner": SMALL,
        "meta_optimizer": adam(),
        "task_batch": 32,
        "eval_tasks": 200,
        "eval_every": max(1, steps // 25),
        "log_every": 10,
    }
    fields = defaults | fields
    return Experiment(steps=steps, **({"eval_on": unseen(fields["tasks"])} | fields))


def papers_training(**fields: Any) -> Experiment:
    """A training in the paper's format and length."""
    defaults = {"tasks": PAPER, "learner": LARGE, "meta_optimizer": papers_adam(), "task_batch": 512}
    return training(100_000, **(defaults | fields))


def curves(profile: str = "cpu") -> Pipeline:
    """Training, and accuracy against examples in context beside MAML, ProtoNet and scikit-learn's classifiers."""
    train = papers_training if profile == "gpu" else lambda **fields: training(1000, **fields)
    first = train()
    assert isinstance(first.tasks, RandomProjectionTasks)
    ways, body = first.tasks.ways, Mlp(widths=(64, 64))
    peers = {
        "maml": train(learner=Maml(steps=5, inner_lr=MAML_RATE, model=body), meta_optimizer=adam()),
        "protonet": train(learner=ProtoNet(ways=ways, model=body), meta_optimizer=adam()),
    }
    return Pipeline(name="gpicl", stages={"gpicl": first, **peers, "curves": LearningCurves(trained=("gpicl", *peers))})


MAML_RATE = 0.01
"""Of MAML's inner steps: the best of eight between 0.003 and 1, each with two outer rates, on one seed below 1000."""


def causal(profile: str = "cpu") -> Pipeline:
    """The paper's causal sequence trained past its plateau, beside the set format on the same tasks."""
    if profile == "gpu":
        stages = {
            "causal": papers_training(),
            "set": papers_training(learner=LARGE.but(format="set", positions="none")),
        }
    else:
        biased = BiasedTasks(tasks=SHORT)
        learner = SMALL.but(format="causal", positions="rotary")
        common: dict[str, Any] = {"task_batch": 128, "eval_tasks": 500}
        stages = {
            "causal": training(1500, tasks=biased, learner=learner, **common),
            "set": training(400, tasks=SHORT, **common),
        }
    return Pipeline(name="gpicl/causal", stages={**stages, "formats": Formats()})


def transition(profile: str = "cpu") -> Pipeline:
    """What is learned from 1 to 2^24 tasks by transformers of two widths (gpu: eight)."""
    if profile == "gpu":
        widths = tuple(2**n for n in range(3, 10))
        stage = Transition(base=papers_training(), exponents=tuple(range(0, 25, 2)), widths=widths)
    else:
        stage = Transition(base=training(600, eval_every=None))
    return Pipeline(name="gpicl/transition", stages={"transition": stage})


def ladder(profile: str = "cpu") -> Pipeline:
    """LSTM, fast weights, VSML and transformers of several sizes."""
    if profile == "gpu":
        recurrent = [kind(format="causal", width=256, layers=2) for kind in (Lstm, OuterProductLstm)]
        learners = (*recurrent, Vsml(format="causal", width=16, ways=10), LARGE.but(width=256, feedforward=1024), LARGE)
        base = papers_training()
    else:
        learners = (
            Lstm(width=64, layers=1),
            Lstm(width=192, layers=1),
            OuterProductLstm(width=64, layers=1),
            Vsml(ticks=1),
            SMALL.but(width=32, feedforward=128),
            SMALL,
        )
        base = training(600, eval_every=None)
    return Pipeline(name="gpicl/ladder", stages={"ladder": Ladder(base=base, learners=learners)})


def plateau(profile: str = "cpu") -> Pipeline:
    """How long learning to learn is waited for, as it is and with each of the paper's interventions."""
    base = papers_training() if profile == "gpu" else training(1000, tasks=TEN_WAYS, eval_every=25, eval_tasks=100)
    return Pipeline(name="gpicl/plateau", stages={"plateau": Plateau(base=base)})
