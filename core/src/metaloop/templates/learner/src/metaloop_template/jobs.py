"""What `metaloop run template` runs."""

from __future__ import annotations

from metaloop import Experiment
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression

from metaloop_template.learner import TemplateLearner


def main(profile: str) -> Experiment:
    """Linear regression; `gpu` trains longer, on larger batches."""
    large = profile == "gpu"
    return Experiment(
        name="template",
        tasks=LinearRegression(inputs=3),
        learner=TemplateLearner(),
        meta_optimizer=Gradient(lr=0.03),
        steps=2000 if large else 200,
        task_batch=1024 if large else 64,
        eval_tasks=500,
        eval_every=200 if large else 50,
    )
