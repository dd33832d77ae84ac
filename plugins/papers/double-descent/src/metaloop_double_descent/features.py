"""Random features of data, and what is known of them from one singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from metaloop import Episode, Key, SupervisedSpec, TaskFamily, tree
from metaloop.errors import Incompatible
from metaloop.specs import Spec
from torch import Tensor

from metaloop_double_descent.grid import Factors, GridSpec, Point
from metaloop_double_descent.images import NoisyImages

RCOND = 1e-10
"""Singular values below this share of the largest one count as zero."""
AT_ONCE = 1 << 28
"""Numbers in the feature matrices that are looked at together (2 GiB)."""


def accepted(learner: str, spec: Spec, data: TaskFamily[Episode, Any]) -> None:
    """Accept a grid (whose data are the learner's own), or episodes of real targets.

    Raises:
        Incompatible: it is neither.
    """
    if isinstance(spec, GridSpec):
        if isinstance(data, NoisyImages):  # real targets always: asking for more would read the images
            return
        spec = data.spec
    if not isinstance(spec, SupervisedSpec):
        raise Incompatible(f"{learner} fits a grid of widths or episodes of examples, not {type(spec).__name__}")
    if spec.target != "real" or spec.shots == 0:
        raise Incompatible(
            f"{learner} regresses on real targets of a support set; for classes of images use double-descent/images"
        )


class Problem(NamedTuple):
    """Rows to fit, and the data that they are fitted to."""

    points: Point
    data: Episode
    """Distinct data sets `[set, ...]` in float64, inputs flat."""
    which: Tensor
    """`[row]` int64: each row's data set."""

    @property
    def support_y(self) -> Tensor:
        """Each row's targets to learn from, `[row, n, outputs]`."""
        return self.data.support_y[self.which]

    @property
    def query_y(self) -> Tensor:
        """Each row's targets to be judged on, `[row, m, outputs]`."""
        return self.data.query_y[self.which]

    @property
    def offset(self) -> Tensor:
        """What rows with centred features predict beside them, the mean target `[row, 1, outputs]`; 0 for others."""
        return self.support_y.mean(1, keepdim=True) * self.points.centre[:, None, None]


def problem(tasks: Point | Episode, keys: Key, data: TaskFamily[Episode, Any], width: int, factors: Factors) -> Problem:
    """Rows of a grid with one draw of `data` for each seed, or episodes with one width and setting for all."""
    if isinstance(tasks, Point):
        names, which = torch.unique(tasks.key, return_inverse=True)
        seeds = [Key(name).fold("data") for name in names]
        drawn = tree.concatenate([data.sample(data.begin(key), 1, key).tasks for key in seeds])
        return Problem(tasks, flat(drawn), which)
    rows = torch.arange(len(tasks.support_x), device=keys.device)
    return Problem(Point.of(factors, width, keys), flat(tasks), rows)


def flat(episodes: Episode) -> Episode:
    """Inputs as rows of numbers, all in float64."""
    x, y, query_x, query_y = (part.double() for part in episodes)
    return Episode(x.flatten(2), y, query_x.flatten(2), query_y)


class Inputs(NamedTuple):
    """How inputs are normalised: subtract and divide, `[design, 1, d]` each."""

    shift: Tensor
    spread: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs `[design, rows, d]`, normalised."""
        return (x - self.shift) / self.spread


def standardised(x: Tensor, wanted: Tensor) -> Inputs:
    """By mean and standard deviation of `x` `[design, n, d]` where `wanted` `[design]`; constant inputs become 0."""
    wanted = wanted[:, None, None]
    spread = x.std(1, keepdim=True, correction=0)
    spread = torch.where(wanted & (spread > 0), spread, torch.ones_like(spread))
    return Inputs(torch.where(wanted, x.mean(1, keepdim=True), torch.zeros_like(spread)), spread)


def relu_features(x: Tensor, weights: Tensor) -> Tensor:
    """`relu(X W / sqrt(d)) / sqrt(p)`."""
    size: float = (weights.shape[-2] * weights.shape[-1]) ** 0.5
    return torch.relu(x @ weights) / size


class Design(NamedTuple):
    """Rows of one width, and the distinct feature matrices among them."""

    rows: Tensor
    """`[row]` int64: which rows of the problem."""
    width: int
    which: Tensor
    """`[row]` int64: each row's feature matrix."""
    support: Tensor
    """`F` `[design, n, p]`."""
    data: Tensor
    """`[design]` int64: each matrix's data set."""
    key: Key
    """`[design]`: the seed's."""
    inputs: Inputs
    mean: Tensor
    """`[design, 1, p]`: taken from features to centre them, 0 where they are not."""
    weights: Tensor
    """`W` `[design, d, p]`."""

    def features(self, x: Tensor) -> Tensor:
        """Features `[design, m, p]` of inputs `[design, m, d]`."""
        return relu_features(self.inputs(x), self.weights) - self.mean

    def times(self, matrices: Tensor, columns: Tensor) -> Tensor:
        """`[row, m, outputs]`: the matrix `[design, m, k]` of each row's design times its columns `[row, k, outputs]`.

        One product per design, for matrices are larger than what they are multiplied with.
        """
        members = [(self.which == i).nonzero().squeeze(1) for i in range(len(matrices))]
        parts = [_times(matrix, columns[rows]) for matrix, rows in zip(matrices, members, strict=True)]
        return torch.cat(parts)[torch.cat(members).argsort()]


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    """`[row, m, outputs]`: the matrix `[m, k]` times the columns `[row, k, outputs]`, side by side in one product."""
    rows, k, outputs = columns.shape
    product = matrix @ columns.movedim(0, 1).reshape(k, rows * outputs)
    return product.reshape(-1, rows, outputs).movedim(1, 0)


def designs(points: Point, support_x: Tensor, which_data: Tensor) -> Iterator[Design]:
    """The feature matrices that rows need on data `[set, n, d]`, each made once, width by width.

    Random weights are named by seed and width alone: rows that differ in how they are fitted share them.
    """
    for width in torch.unique(points.width).tolist():
        rows = (points.width == width).nonzero().squeeze(1)
        names = torch.stack([which_data, points.key, points.standardise.long(), points.centre.long()], 1)[rows]
        distinct, which = torch.unique(names, dim=0, return_inverse=True)
        size = max(1, AT_ONCE // (support_x.shape[1] * width))
        for first in range(0, len(distinct), size):
            mine = (which >= first) & (which < first + size)
            yield _design(rows[mine], width, which[mine] - first, distinct[first : first + size], support_x)


def _design(rows: Tensor, width: int, which: Tensor, names: Tensor, support_x: Tensor) -> Design:
    """The design of rows whose matrices are named `[design, (data set, key, standardise, centre)]`."""
    sets, key, standardise, centre = names.unbind(1)
    x, keys = support_x[sets], Key(key)
    inputs = standardised(x, standardise.bool())
    weights = keys.fold("features", width).normal(x.shape[-1], width, dtype=torch.float64)
    features = relu_features(inputs(x), weights)
    mean = features.mean(1, keepdim=True) * centre[:, None, None]
    return Design(rows, width, which, features - mean, sets, keys, inputs, mean, weights)


class Spectrum(NamedTuple):
    """A singular value decomposition `F = U diag(s) V'`, the null directions left out by zeros in `inverse`."""

    u: Tensor
    """`[design, n, r]`."""
    s: Tensor
    """`[design, r]`, descending."""

    @property
    def alive(self) -> Tensor:
        """Which singular values are not zero, `[design, r]`."""
        return self.s > RCOND * self.s[:, :1]

    @property
    def relative(self) -> Tensor:
        """`s^2 / s_max^2` `[design, r]`."""
        return (self.s / self.s[:, :1]).square()

    @property
    def rank(self) -> Tensor:
        """`[design]` int64."""
        return self.alive.sum(1)

    @property
    def condition(self) -> Tensor:
        """kappa(F), the largest singular value over the smallest that is not zero, `[design]`."""
        smallest: Tensor = torch.where(self.alive, self.s, torch.inf).amin(1)
        return self.s[:, 0] / smallest


def decompose(features: Tensor) -> Spectrum:
    """Left singular vectors and singular values of `[design, n, p]`; by a QR decomposition first where p > n."""
    n, p = features.shape[-2:]
    square = torch.linalg.qr(features.mT, mode="r")[1].mT if p > n else features
    u, s, _ = torch.linalg.svd(square, full_matrices=False)
    return Spectrum(u, s)
