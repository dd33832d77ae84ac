"""The best step sizes of gradient descent: in theory, in closed form on given tasks, and by a numerical fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from metaloop import Episode, Key, tree
from numpy.typing import NDArray
from torch import Tensor

from metaloop_icl_gd.gradient_descent import GDPlusPlus, Theta
from metaloop_icl_gd.regression import rows


class OneStep(NamedTuple):
    """What one step of gradient descent from 0 reaches on linear regression."""

    eta: float
    """The best step size, over N."""
    loss: float
    """The expected loss with it."""
    zero_loss: float
    """The expected loss of predicting zero."""


def expected_one_step(inputs: int, shots: int, span: float = 1.0) -> OneStep:
    """The best step for `y = w x`, `w ~ N(0, I)`, inputs uniform on an interval of length `span` around 0.

    With `s = span^2 / 12` and `M = tr E[S^2]`, `S = X^T X / N`, the loss is `s/2 (d - 2 eta d s + eta^2 M)`.
    """
    d, s, fourth = inputs, span**2 / 12, span**4 / 80
    m = (d * fourth + d * (d - 1) * s**2) / shots + (1 - 1 / shots) * d * s**2
    eta = d * s / m
    return OneStep(eta / shots, s / 2 * (d - eta * d * s), s * d / 2)


def one_step_eta(tasks: Episode) -> float:
    """The step size (over N) that minimises the mean loss after one step from 0 on these tasks, exactly."""
    slope = rows(tasks.support_x).mT @ tasks.support_y  # [task, d, outputs]
    prediction = (rows(tasks.query_x) @ slope).double()
    return float((prediction * tasks.query_y).sum() / prediction.square().sum())


def best_step_sizes(learner: GDPlusPlus, tasks: Episode) -> Theta:
    """The step sizes that minimise the mean loss on these tasks, by L-BFGS in float64 from the learner's own.

    For plain gradient descent with one step the closed form; a learner with an embedding is not for this.
    """
    start = learner.step_sizes()
    if learner.steps == 1 and not learner.whiten:
        return {"eta": torch.full_like(start["eta"], one_step_eta(tasks))}
    from scipy.optimize import minimize

    names, sizes = list(start), [len(value) for value in start.values()]
    double: Episode = tree.map_tensors(lambda leaf: leaf.detach().double(), tasks)
    keys = Key.of(0, double.support_x.device).split(tree.length(tasks))

    def loss_and_slope(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat = torch.tensor(values, device=keys.device, requires_grad=True)
        loss = learner.live(_named(names, sizes, flat), double, keys)[0].loss.mean()
        (slope,) = torch.autograd.grad(loss, flat)
        return float(loss.detach()), slope.cpu().numpy()

    first = torch.cat(list(start.values())).double().numpy()
    found = minimize(loss_and_slope, first, jac=True, method="L-BFGS-B").x
    best = torch.tensor(found, dtype=tasks.support_x.dtype, device=keys.device)
    return _named(names, sizes, best)


def _named(names: list[str], sizes: list[int], flat: Tensor) -> Theta:
    return dict(zip(names, torch.split(flat, sizes), strict=True))
