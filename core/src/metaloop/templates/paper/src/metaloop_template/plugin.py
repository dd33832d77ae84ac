"""What the plugin offers. Imports nothing heavy: targets are strings."""

from metaloop.manifest import Job, Paper, Part, Plugin

SPEC = Plugin(
    name="template",
    summary="gradient descent on a linear model from a learned start",
    paper=Paper(
        title="(the paper's title)",
        authors="(its authors)",
        year=2000,
        venue="(venue)",
        identifier="(arXiv)",
        family="(what a reader would look for it under)",
    ),
    components=(
        Part("template/learner", "learner", "metaloop_template.learner:TemplateLearner", "learned descent"),
        Part("template/compare", "stage", "metaloop_template.stages:TemplateCompare", "beside ridge regression"),
    ),
    jobs=(
        Job(
            "template",
            "metaloop_template.jobs:main",
            "the paper's main experiment",
            dry=(
                ("stages.train.steps", 1),
                ("stages.train.task_batch", 2),
                ("stages.train.eval_tasks", 2),
                ("stages.compare.tasks", 2),
            ),
        ),
    ),
    claims="metaloop_template.claims:CLAIMS",
)
