"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression, Sinusoid

from metaloop_icl_gd.embedding import Embedding
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.nonlinear import Nonlinear
from metaloop_icl_gd.separate import CopyThenDescend
from metaloop_icl_gd.stages import Alignment
from metaloop_icl_gd.step_sizes import expected_one_step
from metaloop_icl_gd.tables import RealTables
from metaloop_icl_gd.transformer import LSATransformer

LINES = LinearRegression(inputs=10, shots=10, queries=1)
SINES = Sinusoid(shots=10, queries=1, amplitude=(0.1, 0.5))


def adam(lr: float, clip: float | None, b2: float = 0.98) -> Gradient:
    """The authors' Adam on the gradient through the transformer."""
    return Gradient(optimizer="Adam", lr=lr, options={"betas": (0.9, b2)}, clip=clip)


def one_step() -> GDPlusPlus:
    """One step of plain gradient descent, with the step size that theory says is best on `LINES`."""
    return GDPlusPlus(whiten=False, eta=expected_one_step(LINES.inputs, LINES.shots).eta)


def training(steps: int, **fields: Any) -> Experiment:
    """An experiment on batches of 2048 fresh tasks, evaluated 50 times on 2000 held-out ones."""
    defaults = {"task_batch": 2048, "eval_tasks": 2000, "eval_every": max(1, steps // 50), "log_every": 10}
    return Experiment(steps=steps, **(defaults | fields))


def one_layer(profile: str = "cpu") -> Pipeline:
    """One linear self-attention layer: training, alignment with gradient descent, real tables."""
    train = training(
        5000 if profile == "gpu" else 2500,
        tasks=LINES,
        learner=LSATransformer(reference=one_step()),
        meta_optimizer=adam(1e-3, clip=1e-3),
    )
    return Pipeline(name="icl-gd", stages={"train": train, "alignment": Alignment(), "tables": RealTables()})


def depth(profile: str = "cpu") -> Pipeline:
    """Two layers of shared weights, and in the gpu profile five of their own, beside gradient descent and GD++."""
    stages = _deep(2, shared=True, steps=5000 if profile == "gpu" else 3000)
    if profile == "gpu":
        stages |= _deep(5, shared=False, steps=50_000)
    return Pipeline(name="icl-gd/depth", stages=stages)


def _deep(layers: int, *, shared: bool, steps: int) -> dict[str, Any]:
    """Training of K layers and of K-step GD++, and their comparison."""
    lr, clip = (5e-4 if layers > 3 else 1e-3), (10.0 if layers > 2 else 1e-3)
    train = training(
        steps,
        tasks=LINES,
        learner=LSATransformer(layers=layers, recurrent=shared, clamp=10.0 if layers > 3 else None),
        meta_optimizer=adam(lr, clip),
    )
    descent = training(
        1000 if shared else 30_000,
        tasks=LINES,
        task_batch=512,
        learner=GDPlusPlus(steps=layers, shared=shared, eta=one_step().eta),
        meta_optimizer=adam(3e-3, clip, b2=0.999),
    )
    names = f"train_{layers}", f"descent_{layers}"
    return {names[0]: train, names[1]: descent, f"alignment_{layers}": Alignment(trained=names[0], descent=names[1])}


def sine(profile: str = "cpu") -> Pipeline:
    """Sine waves: an MLP before linear self-attention, the MLP before one gradient step, and no MLP."""
    paper = profile == "gpu"
    steps, batch, lr, clip = (20_000, 2048, 1e-3, 100.0) if paper else (3000, 256, 3e-3, 1.0)
    common = {"tasks": SINES, "task_batch": batch}
    return Pipeline(
        name="icl-gd/sine",
        stages={
            "train": training(
                steps,
                learner=LSATransformer(embedding=Embedding()),
                meta_optimizer=adam(lr, clip),
                **common,
            ),
            "descent": training(
                steps,
                learner=GDPlusPlus(whiten=False, eta=0.01, embedding=Embedding()),
                meta_optimizer=adam(3e-4 if paper else lr, clip, b2=0.999 if paper else 0.98),
                **common,
            ),
            "without_mlp": training(
                max(1, steps // 4),
                learner=LSATransformer(embedding=Embedding(hidden=0)),
                meta_optimizer=adam(lr, clip),
                **common,
            ),
            "comparison": Nonlinear(trained=("train", "descent", "without_mlp")),
        },
    )


def separate_tokens(profile: str = "cpu") -> Pipeline:
    """x and y in tokens of their own: a softmax layer that learns to copy, then a linear one."""
    steps, batch, lr, clip = (10_000, 2048, 1e-3, 10.0) if profile == "gpu" else (4000, 512, 3e-3, 0.1)
    train = training(
        steps,
        tasks=LINES,
        task_batch=batch,
        learner=LSATransformer(
            layers=2, recurrent=False, softmax="first", tokens="separate", positions=10, init_scale=0.02
        ),
        meta_optimizer=adam(lr, clip),
    )
    return Pipeline(name="icl-gd/separate-tokens", stages={"train": train, "copying": CopyThenDescend()})
