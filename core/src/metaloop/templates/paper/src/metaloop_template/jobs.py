"""What `metaloop run template` runs: `gpu` holds the paper's own settings, `cpu` shorter ones."""

from __future__ import annotations

from metaloop import Experiment, Pipeline
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_basics.tasks.regression import LinearRegression

from metaloop_template.learner import TemplateLearner
from metaloop_template.stages import TemplateCompare


def training(steps: int, **fields: object) -> Experiment:
    """Meta-training on linear regression."""
    defaults = {"task_batch": 64, "eval_tasks": 500, "eval_every": max(1, steps // 4)}
    return Experiment.model_validate(
        {
            "tasks": LinearRegression(inputs=3),
            "learner": TemplateLearner(),
            "meta_optimizer": Gradient(lr=0.03),
            "steps": steps,
        }
        | defaults
        | fields
    )


def main(profile: str) -> Pipeline:
    """Training, then the comparison."""
    train = training(2000, task_batch=1024) if profile == "gpu" else training(200)
    return Pipeline(name="template", stages={"train": train, "compare": TemplateCompare()})
