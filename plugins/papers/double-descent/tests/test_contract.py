"""What the core asks of every part, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_basics.tasks.table import TableEpisodes
from metaloop_double_descent.early_stopping import EarlyStopping
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.network import TwoLayer
from metaloop_double_descent.perfect import PerfectNetwork
from metaloop_double_descent.random_features import RandomFeatures

FEW = LinearRegression(inputs=2, outputs=2, shots=6, queries=3, noise=0.1)
NETWORKS = Widths(
    widths=(2, 5), settings=(Factors(lr=0.05), Factors(lr=0.1, standardise=True, scale=0.5)), seeds=(0, 1)
)


@testing.parametrize(Widths.example(), NoisyImages.example())
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(RandomFeatures.example(), FeatureDescent.example(), FeatureAdam.example(), tasks=Widths.example())
def test_random_features_on_a_grid(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    RandomFeatures(width=8, factors=Factors(steps=30, lr=1.9)),
    EarlyStopping(width=8, factors=Factors(steps=30, lr=0.5, centre=True, start=0.3)),
    FeatureDescent(steps=2, width=8),
    FeatureAdam(steps=2, width=8, factors=Factors(lr=0.1, standardise=True, scale=2.0)),
    TwoLayer(steps=2, width=4),
    PerfectNetwork(iterations=2, width=4),
    tasks=FEW,
)
def test_learners_on_episodes_of_another_plugin(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    TwoLayer.example(),
    TwoLayer(steps=2, optimizer="adam", norm="batch", data=NoisyImages.example()),
    TwoLayer(steps=2, optimizer="sgd", parametrisation="ntk", data=TableEpisodes.example()),
    PerfectNetwork.example(),
    tasks=NETWORKS,
)
def test_networks_on_a_grid(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("double-descent")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
