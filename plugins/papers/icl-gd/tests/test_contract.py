"""What the core asks of every learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_icl_gd.embedding import Embedding
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.transformer import LSATransformer

SMALL = Embedding(width=4, hidden=5)


@testing.parametrize(
    LSATransformer.example(),
    LSATransformer(init_scale=1.0, layers=2, recurrent=False, softmax="all", layer_norm=True, mlp=2, clamp=5.0),
    LSATransformer(init_scale=1.0, layers=2, tokens="separate", positions=2, softmax="first"),
    LSATransformer(init_scale=1.0, embedding=SMALL),
    LSATransformer(init_scale=1.0, reference=GDPlusPlus(steps=2, eta=0.3, gamma=0.1)),
    GDPlusPlus.example(),
    GDPlusPlus(steps=2, whiten=False, eta=0.3),
    GDPlusPlus(eta=0.3, embedding=SMALL, embedding_scale=1.0),
    tasks=LinearRegression(inputs=2, shots=4, queries=3),
)
def test_learners(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("icl-gd")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
