"""What the plugin offers. Imports nothing heavy: targets are strings."""

from metaloop.manifest import Job, Part, Plugin

SPEC = Plugin(
    name="template",
    summary="gradient descent on a linear model from a learned start",
    components=(Part("template/learner", "learner", "metaloop_template.learner:TemplateLearner", "learned descent"),),
    jobs=(
        Job(
            "template",
            "metaloop_template.jobs:main",
            "the learner on lines",
            dry=(("steps", 1), ("task_batch", 2), ("eval_tasks", 2)),
        ),
    ),
)
