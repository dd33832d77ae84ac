"""NOTEARS and DAGMA from their well-kept packages, as learners: baselines, and where TOPO may begin."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from metaloop import Incompatible, Key, Outcome, Spec, UserError
from metaloop.precision import default_dtype
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metaloop_notears_topo.finder import Finder, judged, least_squares, thresholded
from metaloop_notears_topo.graphs import acyclic, topological
from metaloop_notears_topo.sem import DataSet, GraphSpec

Array = NDArray[np.float64]


_INSTALL = {"dagma": "'metaloop-notears-topo[peers]'", "castle": "gcastle"}


def installed(package: str) -> bool:
    """Whether a peer's package is there, without importing it."""
    return find_spec(package) is not None


class Found(NamedTuple):
    """What a peer found."""

    weights: Tensor
    """`[task, node, node]`, thresholded and without cycles."""


class Peer(Finder):
    """A solver of one data set at a time; its score is that of least squares on an order of its graph.

    So it is compared without its penalty, and with all edges that its order allows: the score that TOPO lowers.
    """

    package: ClassVar[str]
    """What it comes from."""

    def check(self, spec: Spec) -> None:
        """Accept tables of real numbers.

        Raises:
            Incompatible: another kind of task.
            UserError: the package is not installed.
        """
        super().check(spec)
        if isinstance(spec, GraphSpec) and spec.values != "real":
            raise Incompatible(f"{type(self).__name__} is for real numbers, not for {spec.values} ones")
        if not installed(self.package):
            raise UserError(f"{type(self).__name__} needs {self.package}: pip install {_INSTALL[self.package]}")

    def solve(self, x: Array, seed: int) -> Array:
        """Weights `[node, node]` of data `[row, node]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement solve")

    def begin(self, theta: Any, tasks: DataSet, keys: Key) -> Found:
        """Solve every data set, one after the other."""
        with _global_state_kept():
            data = tasks.x.double().cpu().numpy()
            found = [self.solve(x, keys[i].seed()) for i, x in enumerate(data)]
        weights = torch.as_tensor(np.stack(found), dtype=torch.float64, device=tasks.x.device)
        return Found(acyclic(thresholded(weights, self.threshold)))

    def evaluate(self, theta: Any, state: Found, tasks: DataSet, keys: Key) -> Outcome:
        """Q of least squares on the order of the graph, and how far the graph is from the true one."""
        known = ~tasks.weights.flatten(1).isnan().any(1)
        reference = torch.full((len(known),), torch.nan, dtype=torch.float64, device=tasks.x.device)
        true = DataSet(tasks.x[known], tasks.weights[known], tasks.seed[known])
        if len(true.x):
            reference[known] = least_squares(true, topological(true.weights))
        score = least_squares(tasks, topological(state.weights))
        return judged(score, state.weights, tasks, reference, {})

    def graph(self, state: Found) -> Tensor:
        """What was found."""
        return state.weights


class Dagma(Peer):
    """DAGMA with least squares from the package `dagma` (Bello et al. 2022)."""

    package: ClassVar[str] = "dagma"

    lambda1: float = Field(default=0.02, ge=0, description="L1 penalty: of the package's example on ER graphs")
    iterations: int = Field(
        default=60_000, ge=1000, description="of the last phase, at most; earlier phases half: the package's default"
    )

    @classmethod
    def example(cls) -> Self:
        """Short phases."""
        return cls(iterations=1000)

    def solve(self, x: Array, seed: int) -> Array:
        """The package's own schedule; its default for `s` is a list that it changes, so it gets a fresh one."""
        from dagma import linear

        with _quiet_bars(linear):
            found: Array = linear.DagmaLinear(loss_type="l2").fit(
                x.copy(),
                lambda1=self.lambda1,
                w_threshold=0.0,
                s=[1.0, 0.9, 0.8, 0.7, 0.6],
                warm_iter=self.iterations // 2,
                max_iter=self.iterations,
            )
        return found


class Notears(Peer):
    """NOTEARS with least squares from the package `gcastle` (Zheng et al. 2018)."""

    package: ClassVar[str] = "castle"

    lambda1: float = Field(default=0.1, ge=0, description="L1 penalty: the package's default and the paper's")
    iterations: int = Field(
        default=100, ge=1, description="of the augmented Lagrangian, at most: the package's default"
    )

    @classmethod
    def example(cls) -> Self:
        """Few iterations."""
        return cls(iterations=2)

    def solve(self, x: Array, seed: int) -> Array:
        """The augmented Lagrangian with the package's defaults."""
        solver = _castle("Notears", {"lambda1": self.lambda1, "max_iter": self.iterations})
        solver.learn(x)
        return np.asarray(solver.weight_causal_matrix, dtype=np.float64)


class NotearsMlp(Peer):
    """NOTEARS with a network for each node from the package `gcastle` (Zheng et al. 2020)."""

    package: ClassVar[str] = "castle"

    threshold: float = Field(default=0.3, ge=0, description="weights below are no edges: the package's default")
    hidden: int = Field(default=10, ge=1, description="hidden units: the package's default")
    iterations: int = Field(
        default=100, ge=1, description="of the augmented Lagrangian, at most: the package's default"
    )

    @classmethod
    def example(cls) -> Self:
        """Few units and iterations."""
        return cls(hidden=2, iterations=1)

    def solve(self, x: Array, seed: int) -> Array:
        """The package's defaults."""
        torch.manual_seed(seed)
        solver = _castle("NotearsNonlinear", {"hidden_layers": (self.hidden, 1), "max_iter": self.iterations})
        solver.learn(x)
        return np.asarray(solver.weight_causal_matrix, dtype=np.float64)


class DagmaMlp(Peer):
    """DAGMA with a network for each node from the package `dagma`; minutes for each data set."""

    package: ClassVar[str] = "dagma"

    threshold: float = Field(default=0.3, ge=0, description="weights below are no edges: the package's default")
    hidden: int = Field(default=10, ge=1, description="hidden units: of the package's example")
    iterations: int = Field(
        default=80_000, ge=100, description="of the last phase, at most; earlier phases 5/8: the package's default"
    )

    @classmethod
    def example(cls) -> Self:
        """Short phases."""
        return cls(hidden=2, iterations=100)

    def solve(self, x: Array, seed: int) -> Array:
        """The package's defaults."""
        from dagma import nonlinear

        torch.manual_seed(seed)
        network = nonlinear.DagmaMLP(dims=[x.shape[1], self.hidden, 1], bias=True, dtype=torch.double)
        with _quiet_bars(nonlinear):
            found: Array = nonlinear.DagmaNonlinear(network, dtype=torch.double).fit(
                x.copy(), w_threshold=0.0, warm_iter=self.iterations * 5 // 8, max_iter=self.iterations
            )
        return found


def _castle(name: str, options: Mapping[str, Any]) -> Any:
    """A solver of gcastle, which logs to the root logger and asks for its backend when it is imported."""
    os.environ.setdefault("CASTLE_BACKEND", "pytorch")
    algorithms = importlib.import_module("castle.algorithms")
    return getattr(algorithms, name)(**options)


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Peers compute in float64; what they change is put back, random generators too; what they log is not shown."""
    numpy_state, level = np.random.get_state(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]), default_dtype(torch.float64), torch.enable_grad():
            yield
    finally:
        np.random.set_state(numpy_state)
        logging.disable(level)


@contextmanager
def _quiet_bars(module: Any) -> Iterator[None]:
    """No progress bars of a module of dagma's: the experiment has its own."""
    shown = module.tqdm
    module.tqdm = partial(shown, disable=True)
    try:
        yield
    finally:
        module.tqdm = shown
