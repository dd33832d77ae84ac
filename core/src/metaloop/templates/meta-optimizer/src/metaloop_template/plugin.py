"""What the plugin offers. Imports nothing heavy: targets are strings."""

from metaloop.manifest import Job, Part, Plugin

SPEC = Plugin(
    name="template",
    summary="descent by the sign of the averaged gradient",
    components=(
        Part(
            "template/meta-optimizer",
            "meta-optimizer",
            "metaloop_template.meta_optimizer:TemplateMetaOptimizer",
            "sign descent with momentum",
        ),
    ),
    jobs=(
        Job(
            "template",
            "metaloop_template.jobs:main",
            "the meta-optimizer on MAML and sinusoids",
            dry=(("steps", 1), ("task_batch", 2), ("eval_tasks", 2)),
        ),
    ),
)
