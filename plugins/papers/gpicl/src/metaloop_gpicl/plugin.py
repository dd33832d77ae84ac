"""What this plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_gpicl"


_CUTS = (("task_batch", 2), ("steps", 1), ("eval_tasks", 2))
_SHORT = (("tasks.shots", 9), ("eval_on.shots", 9))


def _small(*paths: str, cuts: tuple[tuple[str, object], ...] = _CUTS) -> tuple[tuple[str, object], ...]:
    """Overrides that cut trainings to one step on two tasks."""
    return tuple((f"stages.{path}.{name}", value) for path in paths for name, value in cuts)


def _short(path: str, *cuts: tuple[str, object]) -> tuple[tuple[str, object], ...]:
    """The same for trainings that are done in many variants: shorter sequences too."""
    return _small(path, cuts=(*_CUTS, *_SHORT, *cuts))


SPEC = Plugin(
    name="gpicl",
    summary="black-box sequence models that learn to learn from augmented data sets",
    paper=Paper(
        title="General-Purpose In-Context Learning by Meta-Learning Transformers",
        authors="Kirsch, Harrison, Sohl-Dickstein, Metz",
        year=2022,
        venue="arXiv (NeurIPS 2022 workshops)",
        identifier="arXiv:2212.04458",
        family="in-context learning",
    ),
    components=(
        Part(
            "gpicl/random-projection",
            "tasks",
            f"{_HERE}.projection:RandomProjectionTasks",
            "tasks without end from one data set: random projections, permuted labels",
        ),
        Part("gpicl/biased", "tasks", f"{_HERE}.projection:BiasedTasks", "a share of tasks has its labels fixed"),
        Part("gpicl/bundled", "part", f"{_HERE}.data:Bundled", "scikit-learn's digits, wine, breast_cancer, iris"),
        Part("gpicl/torchvision", "part", f"{_HERE}.data:Torchvision", "MNIST, FashionMNIST, KMNIST, CIFAR10, SVHN"),
        Part("gpicl/transformer", "learner", f"{_HERE}.transformer:InContextTransformer", "a transformer in context"),
        Part("gpicl/lstm", "learner", f"{_HERE}.recurrent:Lstm", "an LSTM in context"),
        Part("gpicl/outer-product-lstm", "learner", f"{_HERE}.recurrent:OuterProductLstm", "an LSTM of fast weights"),
        Part("gpicl/vsml", "learner", f"{_HERE}.vsml:Vsml", "one small LSTM shared by all connections"),
        Part("gpicl/learning-curves", "stage", f"{_HERE}.stages:LearningCurves", "accuracy against examples"),
        Part("gpicl/transition-stage", "stage", f"{_HERE}.grids:Transition", "number of tasks by model size"),
        Part("gpicl/ladder-stage", "stage", f"{_HERE}.grids:Ladder", "state sizes"),
        Part("gpicl/plateau-stage", "stage", f"{_HERE}.grids:Plateau", "what shortens the plateau"),
        Part("gpicl/formats", "stage", f"{_HERE}.grids:Formats", "the causal format beside the set format"),
    ),
    jobs=(
        Job(
            "gpicl",
            f"{_HERE}.jobs:curves",
            "accuracy against examples in context, on unseen tasks and data sets",
            dry=(*_small("gpicl", "maml", "protonet"), ("stages.curves.tasks", 4), ("stages.curves.fitted", 2)),
        ),
        Job(
            "gpicl/causal",
            f"{_HERE}.jobs:causal",
            "the paper's causal sequences past their plateau, beside sets",
            dry=(*_small("causal", "set"), ("stages.formats.tasks", 4)),
        ),
        Job(
            "gpicl/transition",
            f"{_HERE}.jobs:transition",
            "memorising, then learning: number of tasks by model size",
            dry=(
                *_short("transition.base", ("learner.layers", 1)),
                ("stages.transition.exponents", [0, 16]),
                ("stages.transition.widths", [8, 512]),
                ("stages.transition.tasks", 4),
            ),
        ),
        Job(
            "gpicl/ladder",
            f"{_HERE}.jobs:ladder",
            "LSTM, fast weights, VSML and transformers: state sizes",
            dry=(*_short("ladder.base"), ("stages.ladder.tasks", 4)),
        ),
        Job(
            "gpicl/plateau",
            f"{_HERE}.jobs:plateau",
            "larger batches, biased tasks and a curriculum against the plateau",
            dry=_short("plateau.base", ("learner.layers", 1)),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
