"""The paper's experiments as jobs; `gpu` holds larger data and wider models, `cpu` digits for two cores."""

from __future__ import annotations

import math
from typing import Any

from metaloop import Experiment, Pipeline
from metaloop.learner import AnyLearner
from metaloop.tasks import AnyTaskFamily
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_basics.tasks.table import TableEpisodes
from metaloop_basics.tasks.vision import TorchvisionEpisodes

from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.network import TwoLayer
from metaloop_double_descent.random_features import RandomFeatures
from metaloop_double_descent.stages import DoubleDescent

RATIOS = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 4.0, 8.0)
NEAR = (0.9, 1.0, 1.1, 1.2, 1.5, 4.0)
"""p / n of curves, and where peaks alone are looked for."""
CLASSES = 10
MAIN = (
    *(Factors(steps=steps) for steps in (math.inf, 1e7)),
    Factors(steps=1e5, standardise=True),
    *(Factors(steps=steps) for steps in (1e5, 1e3)),
)
VARIED = (
    *(Factors(steps=steps) for steps in (1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, math.inf)),
    *(Factors(steps=steps, lr=lr) for steps in (1e5, 1e7) for lr in (0.01, 0.1, 1.9)),
    *(Factors(steps=steps, scale=scale) for steps in (1e4, 1e6) for scale in (0.1, 0.3)),
    *(Factors(steps=steps, start=start) for steps in (1e3, 1e5, 1e7) for start in (1.0, 3.0)),
    *(Factors(steps=steps, standardise=True) for steps in (1e2, 1e3, 1e4, 1e5, 1e6)),
    *(Factors(steps=steps, centre=True) for steps in (1e2, 1e3, 1e4, 1e5, 1e6)),
)
"""One factor at a time, at several budgets."""


def grid(learner: AnyLearner, widths: Widths, **fields: Any) -> Experiment:
    """A run over all rows of a grid at once, evaluated at its end."""
    steps = max(1, learner.steps)
    defaults = {"task_batch": None, "log_every": steps, "checkpoint_every": max(1, steps // 4)}
    return Experiment(tasks=widths, learner=learner, **(defaults | fields))


def random_features(profile: str = "cpu") -> Pipeline:
    """Random features on digits: curves over widths, conditioning, optimisers, and what they have in common."""
    if profile == "gpu":
        images = TorchvisionEpisodes(dataset="MNIST", download=True)
        return _random_features(
            "double-descent", NoisyImages(images=images, shots=4000, queries=2000), 4000, paper=True
        )
    return _random_features("double-descent", NoisyImages(), 200)


def diabetes(profile: str = "cpu") -> Pipeline:
    """The same on scikit-learn's diabetes table."""
    return _random_features("double-descent/diabetes", TableEpisodes(shots=200, queries=200), 200)


def teacher(profile: str = "cpu") -> Pipeline:
    """The same on a linear teacher with Gaussian inputs and noisy labels."""
    n, d = (4000, 400) if profile == "gpu" else (200, 40)
    data = LinearRegression(law="normal", inputs=d, shots=n, queries=1000, weight_scale=d**-0.5, noise=0.5)
    return _random_features("double-descent/teacher", data, n)


def _random_features(name: str, data: AnyTaskFamily, n: int, *, paper: bool = False) -> Pipeline:
    """Grids of the closed form and of optimisers that have none, and the picture of all."""
    wide = tuple(round(ratio * n) for ratio in (*RATIOS, *([10.0] if paper else ())))
    near = tuple(round(ratio * n) for ratio in NEAR)
    double = {"precision": "float64"}
    sgd, adam = (3000, 3000) if paper else (300, 300)
    return Pipeline(
        name=name,
        stages={
            "curves": grid(RandomFeatures(data=data), Widths(widths=wide, settings=MAIN), **double),
            "factors": grid(RandomFeatures(data=data), Widths(widths=near, settings=VARIED), **double),
            "sgd": grid(FeatureDescent(data=data, steps=sgd, batch=8), Widths(widths=near), **double),
            "momentum": grid(
                FeatureDescent(data=data, steps=10 * sgd, momentum=0.9),
                Widths(widths=near, settings=(Factors(lr=1.0),)),
                **double,
            ),
            "adam": grid(
                FeatureAdam(data=data, steps=adam),
                Widths(widths=near, settings=(Factors(lr=0.01), Factors(lr=0.1))),
                **double,
            ),
            "picture": DoubleDescent(curves="curves", grids=("factors", "sgd", "momentum", "adam"), threshold=n),
        },
    )


def networks(profile: str = "cpu") -> Pipeline:
    """Two-layer networks on digits: optimisers, rates, normalisation and first weights."""
    return Pipeline(name="double-descent/networks", stages=_networks(profile == "gpu"))


def _networks(paper: bool) -> dict[str, Any]:
    data, pixels = NoisyImages(), 61
    widths: tuple[int, ...] = (4, 8, 12, 16, 24, 32, 48, 64, 128)
    seeds: tuple[int, ...] = (0, 1, 2)
    if paper:
        images = TorchvisionEpisodes(dataset="MNIST", download=True)
        data, pixels = NoisyImages(images=images, shots=4000, queries=2000), 717
        widths, seeds = tuple(2**k for k in range(1, 13)), (0, 1, 2, 3, 4)
    epochs, tuned = (100_000, 0.001) if paper else (1000, 0.01)
    rates = tuple(Factors(lr=lr, standardise=flag) for flag in (False, True) for lr in (tuned, tuned / 10))
    slow, one = (Factors(lr=tuned * 10, standardise=True),), (Factors(lr=tuned, standardise=True),)
    learners = {
        "adam": (TwoLayer(data=data, steps=epochs), rates),
        "sgd": (TwoLayer(data=data, steps=epochs, optimizer="sgd"), slow),
        "layer_norm": (TwoLayer(data=data, steps=epochs, norm="layer"), one),
        "ntk": (TwoLayer(data=data, steps=epochs, parametrisation="ntk"), one),
    }
    stages: dict[str, Any] = {
        name: grid(learner, Widths(widths=widths, seeds=seeds, settings=settings))
        for name, (learner, settings) in learners.items()
    }
    threshold = round(data.shots * CLASSES / (pixels + CLASSES + 1))
    axis = "hidden units / (n C / (d + C + 1))"
    return stages | {"picture": DoubleDescent(grids=tuple(stages), threshold=threshold, low=0.5, high=2.5, axis=axis)}
