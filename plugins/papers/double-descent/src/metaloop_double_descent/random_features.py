"""Random feature regression by gradient descent, in closed form for every budget at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import torch
from metaloop import Episode, Key, Learner, Outcome, Spec, tree
from metaloop.errors import UserError
from metaloop.outcome import outcome
from metaloop.tasks import AnyTaskFamily
from pydantic import Field
from torch import Tensor

from metaloop_double_descent.features import Design, Problem, accepted, decompose, designs, problem
from metaloop_double_descent.grid import Factors, Point
from metaloop_double_descent.images import NoisyImages

Theta = dict[str, Tensor]
State = TypeVar("State")


class Fit(NamedTuple):
    """Fitted output layers `a = a_0 + F' alpha`, and what is needed to make their features again."""

    alpha: Tensor
    """`[row, n, outputs]` float64."""
    condition: Tensor
    """kappa(F) `[row]`."""
    rank: Tensor
    """of F, `[row]` int64."""
    key: Tensor
    """`[row]` int64: names the row's random weights."""
    offset: Tensor
    """`[row, 1, outputs]`: added to what features say."""
    support_x: tuple[Tensor, ...] = ()
    """On episodes `[row, n, d]`, for `predict`; a grid's rows draw their data again."""


class FeatureModel(Learner[Theta, Any, State], Generic[State]):
    """Base of learners of `y = f(x) a`, `f(x) = relu(x W / sqrt(d)) / sqrt(p)` with random W: only `a` learns.

    On a grid each row says its width and factors, and `data` says what is fitted; on episodes `width` and `factors`
    hold for all. All is computed in float64 whatever the experiment's precision: at p = n the smallest singular value
    is some 1e-5 of the largest, and rounding would be a regulariser.

    Features are homogeneous: with W times `scale` they are `scale` times as large. So `scale` multiplies the learning
    rate by its square and `start` by itself, and changes nothing else; the learning rate stays in its unit at scale 1.
    """

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"
    stackable: ClassVar[bool] = False

    width: int = Field(default=200, ge=1, description="random features p, on episodes")
    factors: Factors = Field(default=Factors(), description="how to fit, on episodes")
    data: AnyTaskFamily = Field(default=NoisyImages(), description="what a grid's rows are fitted to")

    def check(self, spec: Spec) -> None:
        """Accept a grid, or episodes of real targets."""
        accepted(type(self).__name__, spec, self.data)

    def problem(self, tasks: Point | Episode, keys: Key) -> Problem:
        """The rows to fit with their data."""
        return problem(tasks, keys, self.data, self.width, self.factors)

    def judge(self, fit: Fit, tasks: Point | Episode) -> Outcome:
        """Squared error, summed over outputs, on new examples; on those learned from as `train_loss`."""
        problem = self.problem(tasks, Key(fit.key))
        points, data, which = problem
        inputs = torch.cat([data.support_x, data.query_x], 1)
        found = fit.offset + outputs(points, data.support_x, which, inputs, fitted_layer(points, fit))
        shots = data.support_x.shape[1]
        metrics = {"condition": fit.condition, "rank": fit.rank.double()}
        return judged(problem, found[:, :shots], found[:, shots:], metrics)

    def outputs_of(self, fit: Fit, inputs: Tensor) -> Tensor:
        """Outputs `[task, m, outputs]` at inputs `[task, m, *inputs]`, on episodes."""
        points = Point.of(self.factors, self.width, Key(fit.key))
        (support_x,) = fit.support_x
        own = torch.arange(len(inputs), device=inputs.device)
        found = outputs(points, support_x, own, inputs.flatten(2).double(), fitted_layer(points, fit))
        return (fit.offset + found).to(torch.get_default_dtype())


class RandomFeatures(FeatureModel[Fit]):
    """Full-batch gradient descent on `|F a - Y|^2 / 2` from a_0, in closed form (float64).

    After T steps of size `eta = lr / s_max^2`, with `F = U diag(s) V'`:
    `a_T = a_0 + V diag((1 - (1 - eta s^2)^T) / s) U' (Y - F a_0)`; with `steps=inf` the solution nearest to a_0, which
    from zero is the one of minimum norm. One decomposition of each F serves all budgets, rates and starts.
    """

    steps: int = Field(default=0, ge=0, le=0, description="none: the solution has a closed form")

    @classmethod
    def example(cls) -> Self:
        """Few digits."""
        return cls(width=6, factors=Factors(steps=50.0, start=0.2, standardise=True), data=NoisyImages.example())

    def begin(self, theta: Theta, tasks: Point | Episode, keys: Key) -> Fit:
        """The solution of every row.

        Raises:
            UserError: a learning rate at which gradient descent diverges.
        """
        points, data, which = problem = self.problem(tasks, keys)
        points = self.scheduled(theta, points)
        rate = points.lr.double() * points.scale.double().square()
        if bool((rate >= 2).any()):
            raise UserError(
                f"lr * scale^2 = {float(rate.max()):g}: gradient descent diverges from 2 on (in units of 1 / s_max^2)"
            )
        targets = problem.support_y - problem.offset
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        order: list[Tensor] = []
        for design in designs(points, data.support_x, which):
            spectrum, rows = decompose(design.support), design.rows
            start = first_layer(points, design, data.support_y.shape[-1])
            residual = targets[rows] - design.times(design.support, start)
            reached = fitted(spectrum.relative[design.which], rate[rows], points.steps[rows].double())
            squared = spectrum.s.square()[design.which]
            alive = spectrum.alive[design.which]
            gain = torch.where(alive, reached / torch.where(alive, squared, 1.0), 0.0)
            alpha = design.times(spectrum.u, gain[..., None] * design.times(spectrum.u.mT, residual))
            parts.append((alpha, spectrum.condition[design.which], spectrum.rank[design.which]))
            order.append(rows)
        alpha, condition, rank = tree.index(tree.concatenate(parts), torch.cat(order).argsort())
        support_x = () if isinstance(tasks, Point) else (data.support_x,)
        return Fit(alpha, condition, rank, points.key, problem.offset, support_x)

    def scheduled(self, theta: Theta, points: Point) -> Point:
        """The rows with the number of steps that they take."""
        return points

    def evaluate(self, theta: Theta, state: Fit, tasks: Point | Episode, keys: Key) -> Outcome:
        """The error on new examples and on those learned from, kappa(F) and the rank of F."""
        return self.judge(state, tasks)

    def predict(self, theta: Theta, state: Fit, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, m, outputs]` at inputs `[task, m, *inputs]`, on episodes."""
        return self.outputs_of(state, inputs)


def fitted(relative: Tensor, rate: Tensor, steps: Tensor) -> Tensor:
    """`1 - (1 - rate * relative)^steps` `[row, r]`: how much of each direction gradient descent has fitted.

    Where the step overshoots (rate * relative > 1) the power's sign alternates; steps are then taken as whole.
    """
    x, steps = rate[:, None] * relative, steps[:, None]
    inside = x < 1
    slow = -torch.expm1(steps * torch.log1p(-torch.where(inside & (x > 0), x, 0.5)))
    sign = torch.where(steps.isinf(), 0.0, 1 - 2 * torch.remainder(steps, 2).round())
    fast = 1 - sign * torch.exp(steps * torch.log(torch.where(inside, 0.5, x - 1).clamp(min=1e-300)))
    return torch.where(x > 0, torch.where(inside, slow, fast), 0.0)


def first_layer(points: Point, design: Design, width: int) -> Tensor:
    """`a_0` `[row, p, outputs]` of a design's rows: normal draws times `start * scale`, one draw per seed and width."""
    draws = design.key.fold("start", design.width).normal(design.width, width, dtype=torch.float64)
    deviation = (points.start * points.scale)[design.rows].double()
    return deviation[:, None, None] * draws[design.which]


def fitted_layer(points: Point, fit: Fit) -> Callable[[Design], Tensor]:
    """A design's rows' `a = a_0 + F' alpha`."""

    def layer(design: Design) -> Tensor:
        start = first_layer(points, design, fit.alpha.shape[-1])
        return start + design.times(design.support.mT, fit.alpha[design.rows])

    return layer


def outputs(
    points: Point, support_x: Tensor, which: Tensor, inputs: Tensor, layer: Callable[[Design], Tensor]
) -> Tensor:
    """What rows say `[row, m, outputs]` at inputs `[set, m, d]` of their data set; `layer` gives a design's rows' a."""
    parts, order = [], []
    for design in designs(points, support_x, which):
        parts.append(design.times(design.features(inputs[design.data]), layer(design)))
        order.append(design.rows)
    return torch.cat(parts)[torch.cat(order).argsort()]


def judged(problem: Problem, support: Tensor, query: Tensor, metrics: Mapping[str, Tensor]) -> Outcome:
    """The outcome of outputs `[row, n, outputs]` and `[row, m, outputs]`; `error` is the share of wrong classes."""
    found = {"train_loss": squared_error(support, problem.support_y), **metrics}
    if query.shape[-1] > 1:
        found["error"] = (query.argmax(-1) != problem.query_y.argmax(-1)).double().mean(-1)
    dtype = torch.get_default_dtype()
    loss = squared_error(query, problem.query_y).to(dtype)
    return outcome(loss, metrics={name: value.to(dtype) for name, value in found.items()})


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error summed over outputs, mean over examples, `[row]`."""
    return (found - wanted).square().sum(-1).mean(-1)
