"""The paper's experiments as jobs; `gpu` holds graphs of 100 nodes, `cpu` smaller ones for two cores."""

from __future__ import annotations

from typing import Any

from metaloop import Experiment, Pipeline
from metaloop.learner import AnyLearner
from metaloop.tasks import AnyTaskFamily

from metaloop_notears_topo.mlp import Mlp
from metaloop_notears_topo.peers import Dagma, Notears, installed
from metaloop_notears_topo.sem import SEM
from metaloop_notears_topo.stages import Recovery
from metaloop_notears_topo.tables import WholeTable
from metaloop_notears_topo.topo import Topo

FEW, MANY = tuple(range(3)), tuple(range(10))


def search(tasks: AnyTaskFamily, learner: AnyLearner, **fields: Any) -> Experiment:
    """A solver on all data sets of a finite family at once, round by round."""
    steps = max(1, learner.steps)
    defaults = {"task_batch": None, "precision": "float64", "checkpoint_every": max(1, steps // 4)}
    return Experiment(tasks=tasks, learner=learner, **(defaults | fields))


def linear(profile: str = "cpu") -> Pipeline:
    """Least squares on random graphs; TOPO from random orders, and after NOTEARS and DAGMA where they are installed."""
    if profile == "gpu":
        topo = Topo(steps=300, small=500, large=2000)
        stages: dict[str, Any] = {
            f"{graph.lower()}{k}": search(SEM(nodes=100, degree=k, graph=graph, seeds=MANY), topo)
            for graph in ("ER", "SF")
            for k in (1, 2, 4)
        }
        return Pipeline(
            name="notears-topo", stages=stages | {"recovery": Recovery(searches=tuple(stages), drawn=("er4",))}
        )
    er2, er4 = SEM(nodes=20, degree=2, seeds=MANY), SEM(nodes=30, degree=4, seeds=MANY)
    stages = {
        "er2": search(er2, Topo(steps=40)),
        "er4": search(er4, Topo(steps=60)),
        "sf4": search(er4.but(graph="SF", noise="gumbel"), Topo(steps=60)),
        "er2-standardised": search(er2.but(standardise=True), Topo(steps=40)),
    }
    few, missing = er2.but(seeds=FEW), []
    for name, peer in (("notears", Notears()), ("dagma", Dagma())):
        if installed(peer.package):
            stages[f"{name}-then-topo"] = search(few, Topo(steps=40, start=peer))
        else:
            missing.append(peer.package)
    drawn = tuple(name for name in ("notears-then-topo", "dagma-then-topo") if name in stages) or ("er2",)
    tables = {
        f"{source}-{rule}": search(WholeTable(source=source, copies=10), Topo(steps=40, rule=rule, small=10, large=20))
        for source in ("wine", "diabetes")
        for rule in ("kkt", "random")
    }
    note = f"Not installed: {', '.join(missing)}; see the README." if missing else ""
    stages |= tables
    stages["recovery"] = Recovery(searches=tuple(stages), drawn=drawn, note=note)
    return Pipeline(name="notears-topo", stages=stages)


def table(profile: str = "cpu") -> Pipeline:
    """Ten searches from random orders on a table of the user's."""
    topo = Topo(steps=100)
    return Pipeline(
        name="notears-topo/table",
        stages={"topo": search(WholeTable(copies=10), topo), "recovery": Recovery(searches=("topo",))},
    )


def nonlinear(profile: str = "cpu") -> Pipeline:
    """Networks on data that networks made."""
    if profile == "gpu":
        tasks, topo = SEM(nodes=40, degree=1, mechanism="mlp", seeds=MANY), _networks(40, 160)
        return _nonlinear({"topo": search(tasks, topo, precision="float32")})
    tasks, topo = SEM(nodes=10, degree=1, mechanism="mlp", rows=500, seeds=(0, 1)), _networks(10, 40)
    return _nonlinear({"topo": search(tasks, topo, precision="float32")})


def _networks(small: int, large: int) -> Topo:
    return Topo(steps=30, model=Mlp(), small=small, large=large, threshold=0.5)


def _nonlinear(stages: dict[str, Any]) -> Pipeline:
    return Pipeline(name="notears-topo/nonlinear", stages=stages | {"recovery": Recovery(searches=tuple(stages))})
