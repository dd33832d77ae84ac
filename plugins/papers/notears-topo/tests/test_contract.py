"""What the core asks of every part, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_notears_topo.logistic import Logistic
from metaloop_notears_topo.mlp import Mlp
from metaloop_notears_topo.priorities import Priorities
from metaloop_notears_topo.sem import SEM
from metaloop_notears_topo.tables import WholeTable
from metaloop_notears_topo.topo import Topo

SMALL = SEM(nodes=5, degree=1, rows=60)


@testing.parametrize(SEM.example(), SEM(nodes=4, degree=1, rows=20, mechanism="mim"), WholeTable.example())
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Topo.example(), Topo(steps=2, small=2, rule="random", start=Topo.example()), tasks=SMALL)
def test_the_search_with_least_squares(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Priorities(threshold=0.2), tasks=SMALL)
def test_orders_as_theta(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Topo(steps=2, small=2, large=3, model=Logistic()), tasks=SMALL.but(mechanism="logistic"))
def test_the_search_with_the_logistic_model(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    Topo(steps=2, small=2, large=3, update="first", model=Mlp(hidden=2, iterations=5)), tasks=SMALL.but(mechanism="mlp")
)
def test_the_search_with_networks(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("notears-topo")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
