"""What this plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_double_descent"

_DIGITS = {"component": "basics/digits", "classes": list(range(10))}


def _small(*stages: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut grids to two widths and one seed, on the bundled digits."""
    data = (("data.images", _DIGITS), ("data.shots", 200), ("data.queries", 50))
    cuts = (("tasks.widths", [200, 4000]), ("tasks.seeds", [0]), *((f"learner.{name}", v) for name, v in data))
    return tuple((f"stages.{stage}.{name}", value) for stage in stages for name, value in cuts)


def _few(*stages: str) -> tuple[tuple[str, object], ...]:
    """Overrides that cut lives to one step."""
    return tuple((f"stages.{stage}.learner.steps", 1) for stage in stages)


_END = (("stages.picture.threshold", 200),)

SPEC = Plugin(
    name="double-descent",
    summary="the peak of double descent appears as far as optimization reaches a low training loss",
    paper=Paper(
        title="Understanding the Role of Optimization in Double Descent",
        authors="Liu, Flanigan",
        year=2023,
        venue="NeurIPS workshop on Optimization for Machine Learning",
        identifier="arXiv:2312.03951",
        family="learning theory",
    ),
    components=(
        Part("double-descent/widths", "tasks", f"{_HERE}.grid:Widths", "widths x factors x seeds, as a grid"),
        Part("double-descent/images", "tasks", f"{_HERE}.images:NoisyImages", "images with some wrong labels"),
        Part("double-descent/factors", "part", f"{_HERE}.grid:Factors", "budget, rate, scales and normalisation"),
        Part(
            "double-descent/random-features",
            "learner",
            f"{_HERE}.random_features:RandomFeatures",
            "gradient descent on random features in closed form",
        ),
        Part(
            "double-descent/early-stopping",
            "learner",
            f"{_HERE}.early_stopping:EarlyStopping",
            "random features that learn when to stop",
        ),
        Part(
            "double-descent/feature-descent",
            "learner",
            f"{_HERE}.feature_descent:FeatureDescent",
            "SGD and momentum on random features",
        ),
        Part(
            "double-descent/feature-adam",
            "learner",
            f"{_HERE}.feature_descent:FeatureAdam",
            "Adam on random features",
        ),
        Part("double-descent/two-layer", "learner", f"{_HERE}.network:TwoLayer", "two-layer networks"),
        Part(
            "double-descent/perfect-network",
            "learner",
            f"{_HERE}.perfect:PerfectNetwork",
            "two-layer networks at the end of L-BFGS",
        ),
        Part("double-descent/picture", "stage", f"{_HERE}.stages:DoubleDescent", "curves, table and collapse of grids"),
    ),
    jobs=(
        Job(
            "double-descent",
            f"{_HERE}.jobs:random_features",
            "random features on digits: test error, conditioning and what budgets have in common",
            dry=(*_small("curves", "factors", "sgd", "momentum", "adam"), *_few("sgd", "momentum", "adam"), *_END),
        ),
        Job(
            "double-descent/networks",
            f"{_HERE}.jobs:networks",
            "two-layer networks on digits",
            dry=(*_small("adam", "sgd", "layer_norm", "ntk"), *_few("adam", "sgd", "layer_norm", "ntk"), *_END),
        ),
        Job("double-descent/diabetes", f"{_HERE}.jobs:diabetes", "the same on scikit-learn's diabetes table"),
        Job("double-descent/teacher", f"{_HERE}.jobs:teacher", "the same on a noisy linear teacher"),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
