"""What the core asks of every family, learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_gpicl.data import Bundled
from metaloop_gpicl.projection import BiasedTasks, RandomProjectionTasks
from metaloop_gpicl.recurrent import Lstm, OuterProductLstm
from metaloop_gpicl.transformer import InContextTransformer
from metaloop_gpicl.vsml import Vsml

LEARNERS = (
    InContextTransformer.example(),
    InContextTransformer.example().but(format="causal", positions="learned"),
    InContextTransformer.example().but(format="causal", positions="rotary"),
    Lstm.example(),
    Lstm.example().but(format="causal"),
    OuterProductLstm.example(),
    Vsml.example(),
    Vsml.example().but(format="causal"),
)


@testing.parametrize(*LEARNERS, tasks=RandomProjectionTasks.example())
def test_learners_of_classes(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(*LEARNERS, tasks=LinearRegression(inputs=2, shots=4, queries=3))
def test_learners_of_real_targets(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    RandomProjectionTasks.example(),
    RandomProjectionTasks(data=Bundled(name="wine"), width=20, vary=True),
    BiasedTasks.example(),
    BiasedTasks(tasks=RandomProjectionTasks.example(), fixed="task"),
)
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("gpicl")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
