"""The paper's experiments as jobs; `gpu` holds the paper's own settings, `cpu` shorter ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression

from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.stages import Alignment
from metaloop_icl_gd.step_sizes import expected_one_step
from metaloop_icl_gd.tables import RealTables
from metaloop_icl_gd.transformer import LSATransformer


def adam(lr: float, clip: float | None, b2: float = 0.98) -> Gradient:
    """The authors' Adam on the gradient through the transformer."""
    return Gradient(optimizer="Adam", lr=lr, options={"betas": (0.9, b2)}, clip=clip)  # type: ignore[arg-type]


def training(profile: str, *, steps: int, cpu_steps: int, **fields: Any) -> Experiment:
    """An experiment on fresh tasks at every step, with batches of 2048 tasks, evaluated 50 times."""
    steps = steps if profile == "gpu" else cpu_steps
    defaults: dict[str, Any] = {
        "steps": steps,
        "task_batch": 2048,
        "eval_tasks": 10_000 if profile == "gpu" else 2000,
        "eval_every": max(1, steps // 50),
        "log_every": 10,
    }
    return Experiment(**(defaults | fields))


def one_layer(profile: str = "cpu") -> Pipeline:
    """One linear self-attention layer: training, alignment with gradient descent, real tables."""
    tasks = LinearRegression(inputs=10, shots=10, queries=1)
    reference = GDPlusPlus(whiten=False, eta=expected_one_step(tasks.inputs, tasks.shots).eta)
    train = training(
        profile,
        steps=5000,
        cpu_steps=2500,
        tasks=tasks,
        learner=LSATransformer(key_size=11, reference=reference),
        meta_optimizer=adam(1e-3, clip=1e-3),
    )
    return Pipeline(name="icl-gd", stages={"train": train, "alignment": Alignment(), "tables": RealTables()})
