"""What this plugin offers."""

from metaloop.manifest import Paper, Part, Plugin

_HERE = "metaloop_double_descent"

SPEC = Plugin(
    name="double-descent",
    summary="the peak of double descent appears as far as optimization reaches a low training loss",
    paper=Paper(
        title="Understanding the Role of Optimization in Double Descent",
        authors="Liu, Flanigan",
        year=2023,
        venue="NeurIPS workshop on Optimization for Machine Learning",
        identifier="arXiv:2312.03951",
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
    ),
)
