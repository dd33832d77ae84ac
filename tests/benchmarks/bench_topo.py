"""TOPO beside the authors' code (github.com/Duntrain/TOPO): the same data, first order, set sizes and stopping rule.

Their code is not here: clone it, and give the folder with `--topo FOLDER`. It imports its own `Topo_utils.py` as
`topo_utils`, which a case-sensitive system does not find, and its `_init_W` reads a global X; so copy it first:

    git clone https://github.com/Duntrain/TOPO /tmp/TOPO && cp /tmp/TOPO/Topo_utils.py /tmp/TOPO/topo_utils.py
    uv run python tests/benchmarks/bench_topo.py --topo /tmp/TOPO

Data are centred, for their regressions have no intercept. Scores are those of least squares on the last order, by one
function for both. Without the folder nothing is timed: there is no peer to stand in.
"""

from __future__ import annotations

import importlib
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Comparison, arguments, compare, report
from metaloop import Key
from metaloop_notears_topo.finder import least_squares
from metaloop_notears_topo.jobs import search
from metaloop_notears_topo.sem import SEM, DataSet
from metaloop_notears_topo.topo import Topo
from numpy.typing import NDArray

SETTINGS = ((20, 2), (30, 4))
"""Nodes and degree; theirs is the second."""
SMALL, LARGE, LARGE_SEARCHES = 100, 400, 1
"""As in their example."""


class Ours:
    """A search of one data set."""

    def __init__(self, nodes: int, degree: int) -> None:
        limit = nodes * (nodes - 1) // 2
        topo = Topo(
            steps=300, rule="code", small=min(SMALL, limit), large=min(LARGE, limit), large_searches=LARGE_SEARCHES
        )
        self.experiment = search(SEM(nodes=nodes, degree=degree, seeds=(0,)), topo, device="cpu")
        with self.experiment.scope():
            self.tasks: DataSet = self.experiment.tasks.sample(self.experiment.begin().family, 1, Key.of(0)).tasks
            x = self.tasks.x - self.tasks.x.mean(1, keepdim=True)
            self.tasks = self.tasks._replace(x=x)
            self.keys = Key.of(1).split(1)
            self.first: list[int] = topo.begin({}, self.tasks, self.keys.fold("begin")).order[0].tolist()

    def __call__(self) -> None:
        learner, clock = self.experiment.learner, None
        with self.experiment.scope(), torch.no_grad():
            state = learner.begin({}, self.tasks, self.keys.fold("begin"))
            while not bool(state.done.all()):
                state = learner.step({}, state, self.tasks, clock, self.keys)
        self.order: list[int] = state.order[0].tolist()


class Theirs:
    """Their `TOPO_linear` with scikit-learn's regression, as their script calls it."""

    def __init__(self, folder: Path, ours: Ours) -> None:
        sys.path.insert(0, str(folder))
        self.module = importlib.import_module("Topo_linear")
        self.x: NDArray[np.float64] = ours.tasks.x[0].numpy()
        self.module.X = self.x  # what their `_init_W` reads
        self.first, self.pairs = ours.first, self.x.shape[1] * (self.x.shape[1] - 1) // 2

    def __call__(self) -> None:
        from sklearn.linear_model import LinearRegression

        def regress(X: Any, y: Any) -> Any:
            return LinearRegression(fit_intercept=False).fit(X=X, y=y).coef_

        def score(X: Any, W: Any) -> tuple[float, Any]:
            rest = X - X @ W
            return 0.5 / len(X) * float(np.square(rest).sum()), -X.T @ rest / len(X)

        self.module.X = self.x
        model = self.module.TOPO_linear(regress=regress, score=score)
        with redirect_stdout(io.StringIO()):  # it says why it ends
            _, order, _, _ = model.fit(
                X=self.x,
                topo=list(self.first),
                no_large_search=LARGE_SEARCHES,
                size_small=min(SMALL, self.pairs),
                size_large=min(LARGE, self.pairs),
            )
        self.order = [int(node) for node in order]


def score_of(tasks: DataSet, order: list[int]) -> float:
    """Q of least squares in an order."""
    return float(least_squares(tasks, torch.tensor([order])))


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "", {"topo": "folder of the authors' code, with topo_utils.py"}, rounds=5)
    if not given.topo:
        print("nothing is measured without the authors' code: see the top of this file for --topo FOLDER")
        return
    folder = Path(given.topo)
    if not (folder / "topo_utils.py").is_file():
        sys.exit(f"{folder} has no topo_utils.py: copy Topo_utils.py to that name")
    rows: list[Comparison] = []
    facts: dict[str, Any] = {}
    for nodes, degree in SETTINGS:
        ours = Ours(nodes, degree)
        theirs, name = Theirs(folder, ours), f"ER-{degree}, d = {nodes}, n = 1000"
        rows.append(compare(name, ("metaloop", ours), ("authors", theirs), rounds=given.rounds, calls=(5, 1), warmup=1))
        facts[f"{name}: Q, metaloop"] = score_of(ours.tasks, ours.order)
        facts[f"{name}: Q, authors"] = score_of(ours.tasks, theirs.order)
    report("TOPO", rows, facts, given)


if __name__ == "__main__":
    main()
