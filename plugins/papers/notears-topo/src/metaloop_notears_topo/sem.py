"""Data sets from structural equation models over random graphs (the generators of NOTEARS, Zheng et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
from metaloop import Draw, Key, Spec, TaskFamily, UserError
from pydantic import Field, model_validator
from torch import Tensor

from metaloop_notears_topo.graphs import varsortability

HIDDEN = 100
"""Units of the network that makes a node of its parents (mechanism `mlp`)."""
JITTER = 1e-8


class DataSet(NamedTuple):
    """Observations, and the graph that they come from where it is known."""

    x: Tensor
    """`[task, row, node]`."""
    weights: Tensor
    """`[task, node, node]`: `W_ij` of the edge i -> j, 0 where there is none; all NaN where nobody knows."""
    seed: Tensor
    """`[task]` int64: the data set's name in a finite family, -1 in one without end."""


class GraphSpec(Spec):
    """Tables of observations whose graph is to be found (`DataSet`)."""

    nodes: int
    rows: int
    values: Literal["real", "binary"] = "real"


class SEM(TaskFamily[DataSet, dict[str, Tensor]]):
    """Random directed acyclic graphs and observations made along them.

    Weights are uniform on [-2, -0.5] and [0.5, 2], noise has scale 1. The order of columns is random.
    """

    nodes: int = Field(default=20, ge=2, description="variables, d")
    degree: int = Field(default=2, ge=1, description="edges per node, k: the graph has k * d (ER-k, SF-k)")
    graph: Literal["ER", "SF"] = Field(default="ER", description="Erdos-Renyi, or scale-free (Barabasi-Albert)")
    mechanism: Literal["linear", "logistic", "mlp", "mim", "gp", "gp-add"] = Field(
        default="linear", description="how a node comes from its parents; mim: tanh + cos + sin of three indices"
    )
    noise: Literal["gauss", "exp", "gumbel", "uniform"] = Field(default="gauss", description="law of the noise")
    rows: int = Field(default=1000, ge=2, description="observations, n")
    standardise: bool = Field(default=False, description="columns of mean 0 and variance 1, which hides the scales")
    seeds: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="names of data sets, for a finite family; None: drawn without end"
    )

    @classmethod
    def example(cls) -> Self:
        """Two small data sets."""
        return cls(nodes=5, degree=1, rows=60, graph="SF", noise="exp", seeds=(3, 4))

    @model_validator(mode="after")
    def _room_for_edges(self) -> Self:
        """Refuse more edges than a graph has room for.

        Raises:
            UserError: with the largest degree.
        """
        most = (self.nodes - 1) // 2
        if self.degree > most:
            raise UserError(f"degree: {self.nodes} nodes have room for at most {most} edges each, not {self.degree}")
        return self

    @property
    def spec(self) -> GraphSpec:
        """What solvers see."""
        binary = self.mechanism == "logistic" and not self.standardise
        return GraphSpec(nodes=self.nodes, rows=self.rows, values="binary" if binary else "real")

    @property
    def size(self) -> int | None:
        """One data set for each seed."""
        return None if self.seeds is None else len(self.seeds)

    def begin(self, key: Key) -> dict[str, Tensor]:
        """What names data sets, under the experiment's own key."""
        return {"key": key.fold("data").data}

    def sample(self, state: dict[str, Tensor], n: int, key: Key) -> Draw[DataSet]:
        """Graphs, weights and observations; the tag is the seed."""
        if self.seeds is None:
            seed, keys = torch.full((n,), -1, device=key.device), key.split(n)
        else:
            chosen = torch.arange(n, device=key.device) if n == self.size else key.permutation(len(self.seeds))[:n]
            seed = torch.tensor(self.seeds, device=key.device)[chosen]
            keys = Key(state["key"].to(key.device)).fold(seed)
        edges = self._edges(keys.fold("graph"))
        weights = edges * two_sided(keys.fold("weights"), self.nodes, self.nodes)
        x = self._observations(weights, keys.fold("rows"))
        if self.standardise:
            x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
        place = keys.fold("names").permutation(self.nodes)  # [task, node]
        x = x.gather(2, place[:, None, :].expand_as(x))
        weights = weights.gather(1, place[:, :, None].expand_as(weights))
        weights = weights.gather(2, place[:, None, :].expand_as(weights))
        return Draw(DataSet(x, weights, seed), seed)

    def columns(self, tasks: DataSet) -> Mapping[str, Sequence[Any]]:
        """Each data set's name, the number of its edges and its varsortability."""
        sortable = varsortability(tasks.x, tasks.weights).tolist()
        true_edges = (tasks.weights != 0).sum((1, 2)).tolist()
        return {"seed": tasks.seed.tolist(), "true_edges": true_edges, "varsortability": sortable}

    def _edges(self, keys: Key) -> Tensor:
        """0 or 1 above the diagonal, `[task, place, place]`."""
        d, n = self.nodes, len(keys)
        edges = torch.zeros(n, d, d, device=keys.device)
        if self.graph == "ER":
            above = torch.triu_indices(d, d, 1, device=keys.device)
            chosen = keys.permutation(above.shape[1])[:, : self.degree * d]
            task = torch.arange(n, device=keys.device)[:, None]
            edges[task, above[0][chosen], above[1][chosen]] = 1.0
            return edges
        # Node by node, each to `degree` older ones, drawn in proportion to edges that come in plus one: Gumbel's top k.
        noise = -(-keys.uniform(d, d).clamp(min=1e-12).log()).log()
        for new in range(d - 2, -1, -1):  # the oldest is the last: edges lead from young to old, as igraph's do
            attraction = (edges[:, :, new + 1 :].sum(1) + 1).log() + noise[:, new, new + 1 :]
            old = attraction.topk(min(self.degree, d - 1 - new), dim=1).indices + new + 1
            edges[:, new].scatter_(1, old, 1.0)
        return edges

    def _observations(self, weights: Tensor, keys: Key) -> Tensor:
        """`[task, row, place]` along edges `[task, place, place]` above the diagonal."""
        shape = (self.rows, self.nodes)
        noise = _noise(self.noise, keys.fold("noise"), *shape)
        if self.mechanism == "linear":  # X = X W + Z
            one = torch.eye(self.nodes, device=weights.device, dtype=weights.dtype)
            found: Tensor = torch.linalg.solve_triangular(
                one - weights, noise, upper=True, left=False, unitriangular=True
            )
            return found
        x = torch.zeros_like(noise)
        coin = keys.fold("coin").uniform(*shape)
        for node in range(self.nodes):
            if self.mechanism == "logistic":
                chance = torch.sigmoid((x @ weights[:, :, node, None]).squeeze(2))
                x[:, :, node] = (coin[:, :, node] < chance).to(x.dtype)
            else:
                parents = (weights[:, :, node] != 0).to(x.dtype)  # [task, place]
                signal = _signal(self.mechanism, x, parents, keys.fold("mechanism", node))
                x[:, :, node] = signal * parents.amax(1)[:, None] + noise[:, :, node]
        return x


def two_sided(keys: Key, *shape: int) -> Tensor:
    """Uniform on [-2, -0.5] and [0.5, 2], `[task, *shape]`."""
    size = keys.fold("size").uniform(*shape, low=0.5, high=2.0)
    return torch.where(keys.fold("sign").uniform(*shape) < 0.5, size, -size)


def _noise(law: str, keys: Key, *shape: int) -> Tensor:
    if law == "gauss":
        return keys.normal(*shape)
    if law == "uniform":
        return keys.uniform(*shape, low=-1.0, high=1.0)
    exponential = -torch.log1p(-keys.uniform(*shape))
    return exponential if law == "exp" else -exponential.clamp(min=1e-12).log()


def _signal(mechanism: str, x: Tensor, parents: Tensor, keys: Key) -> Tensor:
    """A function of parents `[task, place]` (0 or 1) drawn at random, at `x` `[task, row, place]`: `[task, row]`."""
    d = x.shape[2]
    if mechanism == "mlp":
        first = two_sided(keys.fold("first"), d, HIDDEN) * parents[:, :, None]
        return (torch.sigmoid(x @ first) @ two_sided(keys.fold("second"), HIDDEN, 1)).squeeze(2)
    if mechanism == "mim":
        index = x @ (two_sided(keys, d, 3) * parents[:, :, None])
        return index[..., 0].tanh() + index[..., 1].cos() + index[..., 2].sin()
    if mechanism == "gp":
        kernel = _rbf((x * parents[:, None, :]).double())
    else:  # a sum of one Gaussian process for each parent has the sum of their kernels
        kernel = sum((_rbf(x[..., p : p + 1].double()) * parents[:, p, None, None] for p in range(d)), start=0.0)  # type: ignore[assignment]
    one = torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    factor: Tensor = torch.linalg.cholesky(kernel + JITTER * x.shape[1] * one)
    return (factor @ keys.normal(x.shape[1], 1, dtype=torch.float64)).squeeze(2).to(x.dtype)


def _rbf(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * torch.cdist(x, x).square())
