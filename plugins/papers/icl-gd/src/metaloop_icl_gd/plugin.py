"""What this plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_icl_gd"


def _small(*stages: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut trainings to one step on eight tasks."""
    cuts = (("task_batch", 8), ("steps", 1), ("eval_tasks", 8))
    return tuple((f"stages.{stage}.{name}", value) for stage in stages for name, value in cuts)


SPEC = Plugin(
    name="icl-gd",
    summary="linear self-attention learns in-context regression by gradient descent",
    paper=Paper(
        title="Transformers learn in-context by gradient descent",
        authors="von Oswald, Niklasson, Randazzo, Sacramento, Mordvintsev, Zhmoginov, Vladymyrov",
        year=2023,
        venue="ICML",
        identifier="arXiv:2212.07677",
        family="in-context learning",
    ),
    components=(
        Part("icl-gd/lsa", "learner", f"{_HERE}.transformer:LSATransformer", "a transformer of linear self-attention"),
        Part("icl-gd/gd-plus-plus", "learner", f"{_HERE}.gradient_descent:GDPlusPlus", "gradient descent, or GD++"),
        Part("icl-gd/embedding", "part", f"{_HERE}.embedding:Embedding", "a linear map and an MLP on each token"),
        Part("icl-gd/alignment", "stage", f"{_HERE}.stages:Alignment", "a transformer beside gradient descent"),
        Part("icl-gd/real-tables", "stage", f"{_HERE}.tables:RealTables", "a trained layer on rows of real tables"),
        Part("icl-gd/nonlinear", "stage", f"{_HERE}.nonlinear:Nonlinear", "learners of sine waves beside each other"),
        Part("icl-gd/copying", "stage", f"{_HERE}.separate:CopyThenDescend", "when a first layer copies tokens"),
    ),
    jobs=(
        Job(
            "icl-gd",
            f"{_HERE}.jobs:one_layer",
            "one layer beside one step of gradient descent, then on real tables",
            dry=(
                *_small("train"),
                ("stages.alignment.tasks", 8),
                ("stages.alignment.iterations", [1, 2]),
                ("stages.tables.episodes", 4),
            ),
        ),
        Job(
            "icl-gd/depth",
            f"{_HERE}.jobs:depth",
            "several layers beside as many steps of gradient descent and of GD++",
            dry=(
                *_small("train_2", "descent_2", "train_5", "descent_5"),
                ("stages.alignment_2.tasks", 8),
                ("stages.alignment_5.tasks", 8),
            ),
        ),
        Job(
            "icl-gd/sine",
            f"{_HERE}.jobs:sine",
            "sine waves: an MLP before linear self-attention, or before one gradient step",
            dry=(*_small("train", "descent", "without_mlp"), ("stages.comparison.tasks", 8)),
        ),
        Job(
            "icl-gd/separate-tokens",
            f"{_HERE}.jobs:separate_tokens",
            "x and y in tokens of their own: first copy, then descend",
            dry=(*_small("train"), ("stages.copying.tasks", 8)),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
