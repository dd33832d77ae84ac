"""What `metaloop run template` runs."""

from __future__ import annotations

from metaloop import Experiment
from metaloop_basics.learners.maml import Maml
from metaloop_basics.meta_optimizers.gradient import Gradient

from metaloop_template.tasks import TemplateTasks


def main(profile: str) -> Experiment:
    """MAML; `gpu` trains longer, on larger batches."""
    large = profile == "gpu"
    return Experiment(
        name="template",
        tasks=TemplateTasks(),
        learner=Maml(steps=5),
        meta_optimizer=Gradient(lr=1e-3),
        steps=20_000 if large else 500,
        task_batch=256 if large else 16,
        eval_tasks=500,
        eval_every=1000 if large else 100,
    )
