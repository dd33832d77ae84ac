"""Random feature regression step by step: stochastic gradient descent, momentum and Adam, all rows at once."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from metaloop import Clock, Episode, Key, Outcome
from pydantic import Field
from torch import Tensor

from metaloop_double_descent.features import Design, decompose, designs
from metaloop_double_descent.grid import Factors, Point
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.random_features import FeatureModel, Fit, Theta, first_layer, judged, outputs


class Descending(NamedTuple):
    """Stochastic gradient descent on the way; all `[row, ...]` in float64."""

    fit: Fit
    velocity: Tensor
    """of `alpha` `[row, n, outputs]`."""
    residual: Tensor
    """`F a - Y` `[row, n, outputs]`."""
    drift: Tensor
    """The velocity of `residual`."""
    kernel: Tensor
    """`F F'` `[row, n, n]`."""
    rate: Tensor
    """eta `[row]`."""


class FeatureDescent(FeatureModel[Descending]):
    """Stochastic gradient descent, with momentum or without, on `|F a - Y|^2 / 2`; one step is an epoch.

    Steps only ever add to `a` combinations of the rows of F, so `a = a_0 + F' alpha` and everything happens in the n
    numbers of alpha through `F F'`: rows of all widths are one batch. `lr` is in units of `1 / s_max^2`, and gradients
    of a batch are scaled to the whole set: equal rates are equally stable. `factors.steps` counts epochs.
    """

    steps: int = Field(default=1000, ge=0, description="epochs")
    batch: int | None = Field(default=None, ge=1, description="examples per update; None: all")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of the heavy ball")

    @classmethod
    def example(cls) -> Self:
        """Two epochs of small batches."""
        return cls(steps=2, batch=3, momentum=0.5, width=5, factors=Factors(lr=0.2), data=NoisyImages.example())

    def lifetime(self, tasks: Point | Episode) -> int | Tensor:
        """`steps`, or as many as a row's `steps` factor allows."""
        return lifetime(self.steps, tasks, self.factors)

    def begin(self, theta: Theta, tasks: Point | Episode, keys: Key) -> Descending:
        """At a_0."""
        points, data, which = problem = self.problem(tasks, keys)
        rows, n, width = len(which), *data.support_y.shape[1:]
        kernel = data.support_x.new_empty(rows, n, n)
        residual = problem.offset - problem.support_y
        largest, condition, rank = (kernel.new_empty(rows) for _ in range(3))
        for design in designs(points, data.support_x, which):
            mine, own = design.rows, design.which
            spectrum = decompose(design.support)
            kernel[mine] = (design.support @ design.support.mT)[own]
            residual[mine] += design.times(design.support, first_layer(points, design, width))
            largest[mine], condition[mine] = spectrum.s[:, 0][own], spectrum.condition[own]
            rank[mine] = spectrum.rank.double()[own]
        support_x = () if isinstance(tasks, Point) else (data.support_x,)
        zero = torch.zeros_like(residual)
        fit = Fit(zero, condition, rank.long(), points.key, problem.offset, support_x)
        rate = points.lr * points.scale.square() / largest.square()
        return Descending(fit, zero.clone(), residual, zero.clone(), kernel, rate)

    def step(self, theta: Theta, state: Descending, tasks: Point | Episode, clock: Clock, keys: Key) -> Descending:
        """One epoch: every example once, in random order, `batch` at a time."""
        fit, velocity, residual, drift, kernel, rate = state
        n = residual.shape[1]
        batch = n if self.batch is None else min(self.batch, n)
        order = keys.permutation(n)
        shuffled = kernel if batch == n else take(kernel, order)  # [row, n, n], rows in the epoch's order
        for first in range(0, n, batch):
            chosen = order[:, first : first + batch]
            size = chosen.shape[1]
            columns = chosen[..., None].expand(-1, -1, residual.shape[2])
            eta = rate[:, None, None] * (n / size)
            push = -eta * (residual if size == n else residual.gather(1, columns))
            velocity, drift = self.momentum * velocity, self.momentum * drift
            velocity = velocity + push if size == n else velocity.scatter_add(1, columns, push)
            drift = torch.baddbmm(drift, kernel if size == n else shuffled[:, first : first + size].mT, push)
            fit, residual = fit._replace(alpha=fit.alpha + velocity), residual + drift
        return Descending(fit, velocity, residual, drift, kernel, rate)

    def evaluate(self, theta: Theta, state: Descending, tasks: Point | Episode, keys: Key) -> Outcome:
        """The error on new examples and on those learned from, kappa(F) and the rank of F."""
        return self.judge(state.fit, tasks)

    def predict(self, theta: Theta, state: Descending, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, m, outputs]` at inputs `[task, m, *inputs]`, on episodes."""
        return self.outputs_of(state.fit, inputs)


def take(matrix: Tensor, rows: Tensor) -> Tensor:
    """Rows `[row, k]` of matrices `[row, n, m]`."""
    return matrix.gather(1, rows[..., None].expand(-1, -1, matrix.shape[2]))


def lifetime(steps: int, tasks: Point | Episode, factors: Factors) -> int | Tensor:
    """A learner's steps, or as many as a row's `steps` factor allows."""
    if isinstance(tasks, Point):
        return tasks.steps.clamp(max=steps).long()
    return int(min(steps, factors.steps))


class Moments(NamedTuple):
    """Adam on the way; weights are padded to the widest row's p. All `[row, ...]` in float64."""

    weights: Tensor
    """`a` `[row, p, outputs]`."""
    first: Tensor
    second: Tensor
    features: Tensor
    """`F` `[row, n, p]`."""
    targets: Tensor
    """What features are fitted to, `[row, n, outputs]`."""
    offset: Tensor
    """`[row, 1, outputs]`: added to what they say."""
    condition: Tensor
    """kappa(F) `[row]`."""
    rank: Tensor
    """of F, `[row]`."""
    lr: Tensor
    """`[row]`."""
    key: Tensor
    """`[row]` int64: names the row's data and random weights."""


class FeatureAdam(FeatureModel[Moments]):
    """Full-batch Adam (Kingma and Ba, 2015) on `|F a - Y|^2 / (2 n)`; rows of all widths are one padded batch.

    Adam divides each coordinate by the size of its own gradients, so it lives in `a` itself, and `lr` is its own
    learning rate. `factors.steps` counts its steps.
    """

    steps: int = Field(default=1000, ge=0, description="updates")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of the two moments")
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the second moment")

    @classmethod
    def example(cls) -> Self:
        """Two steps."""
        return cls(steps=2, width=5, factors=Factors(lr=0.1), data=NoisyImages.example())

    def lifetime(self, tasks: Point | Episode) -> int | Tensor:
        """`steps`, or as many as a row's `steps` factor allows."""
        return lifetime(self.steps, tasks, self.factors)

    def begin(self, theta: Theta, tasks: Point | Episode, keys: Key) -> Moments:
        """At a_0."""
        points, data, which = problem = self.problem(tasks, keys)
        rows, (n, width), p = len(which), data.support_y.shape[1:], int(points.width.max())
        weights, features = data.support_x.new_zeros(rows, p, width), data.support_x.new_zeros(rows, n, p)
        condition, rank = (features.new_empty(rows) for _ in range(2))
        for design in designs(points, data.support_x, which):
            mine, own = design.rows, design.which
            spectrum = decompose(design.support)
            features[mine, :, : design.width] = points.scale[mine, None, None].double() * design.support[own]
            start = first_layer(points, design, width) / points.scale[mine, None, None]
            weights[mine, : design.width] = start
            condition[mine], rank[mine] = spectrum.condition[own], spectrum.rank.double()[own]
        zero = torch.zeros_like(weights)
        lr = points.lr.double()
        targets, offset = problem.support_y - problem.offset, problem.offset
        return Moments(weights, zero, zero.clone(), features, targets, offset, condition, rank, lr, points.key)

    def step(self, theta: Theta, state: Moments, tasks: Point | Episode, clock: Clock, keys: Key) -> Moments:
        """One update of every row."""
        slope = state.features.mT @ (state.features @ state.weights - state.targets) / state.targets.shape[1]
        b1, b2 = self.betas
        first, second = b1 * state.first + (1 - b1) * slope, b2 * state.second + (1 - b2) * slope.square()
        times = clock.step[:, None, None].double() + 1
        size = (second / (1 - b2**times)).sqrt() + self.eps
        weights = state.weights - state.lr[:, None, None] / (1 - b1**times) * first / size
        return state._replace(weights=weights, first=first, second=second)

    def evaluate(self, theta: Theta, state: Moments, tasks: Point | Episode, keys: Key) -> Outcome:
        """The error on new examples and on those learned from, kappa(F) and the rank of F."""
        problem = self.problem(tasks, Key(state.key))
        points, data, which = problem

        def layer(design: Design) -> Tensor:
            scale = points.scale[design.rows, None, None].double()
            return scale * state.weights[design.rows, : design.width]

        query = state.offset + outputs(points, data.support_x, which, data.query_x, layer)
        metrics = {"condition": state.condition, "rank": state.rank}
        return judged(problem, state.offset + state.features @ state.weights, query, metrics)
