"""What this plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_icl_gd"
_SMALL = (("task_batch", 8), ("steps", 1), ("eval_tasks", 8))

SPEC = Plugin(
    name="icl-gd",
    summary="linear self-attention learns in-context regression by gradient descent",
    paper=Paper(
        title="Transformers learn in-context by gradient descent",
        authors="von Oswald, Niklasson, Randazzo, Sacramento, Mordvintsev, Zhmoginov, Vladymyrov",
        year=2023,
        venue="ICML",
        identifier="arXiv:2212.07677",
    ),
    components=(
        Part("icl-gd/lsa", "learner", f"{_HERE}.transformer:LSATransformer", "a transformer of linear self-attention"),
        Part(
            "icl-gd/gd-plus-plus", "learner", f"{_HERE}.gradient_descent:GDPlusPlus", "gradient descent, plain or GD++"
        ),
        Part("icl-gd/alignment", "stage", f"{_HERE}.stages:Alignment", "a transformer beside gradient descent"),
        Part("icl-gd/real-tables", "stage", f"{_HERE}.tables:RealTables", "a trained layer on rows of real tables"),
    ),
    jobs=(
        Job(
            "icl-gd",
            f"{_HERE}.jobs:one_layer",
            "one layer beside one step of gradient descent, then on real tables",
            dry=(
                *((f"train.{name}", value) for name, value in _SMALL),
                ("alignment.tasks", 8),
                ("alignment.iterations", [1, 2]),
                ("tables.episodes", 4),
            ),
        ),
    ),
)
