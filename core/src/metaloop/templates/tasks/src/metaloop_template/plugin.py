"""What the plugin offers. Imports nothing heavy: targets are strings."""

from metaloop.manifest import Job, Part, Plugin

SPEC = Plugin(
    name="template",
    summary="regression on parabolas",
    components=(Part("template/tasks", "tasks", "metaloop_template.tasks:TemplateTasks", "noisy parabolas"),),
    jobs=(
        Job(
            "template",
            "metaloop_template.jobs:main",
            "MAML on the tasks",
            dry=(("steps", 1), ("task_batch", 2), ("eval_tasks", 2)),
        ),
    ),
)
