"""What every meta-optimizer promises, checked by `metaloop.testing`."""

from __future__ import annotations

import pytest
from metaloop.meta_optimizer import AnyMetaOptimizer
from metaloop.testing import check_meta_optimizer
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy, PersistentES, RandomSearch
from metaloop_basics.meta_optimizers.gradient import Gradient, TruncatedGradient
from metaloop_basics.meta_optimizers.reptile import Reptile


@pytest.mark.parametrize(
    "meta_optimizer",
    [
        Gradient.example(),
        Gradient(optimizer="SGD", lr=0.05, options={"momentum": 0.9}, schedule="LinearLR", clip=1.0),
        TruncatedGradient.example(),
        Reptile.example(),
        EvolutionStrategy.example(),
        PersistentES.example(),
        RandomSearch.example(),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_contract(meta_optimizer: AnyMetaOptimizer) -> None:
    check_meta_optimizer(meta_optimizer)
