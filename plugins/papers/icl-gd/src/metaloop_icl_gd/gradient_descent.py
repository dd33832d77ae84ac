"""Gradient descent on a context's least-squares loss, plain or with GD++'s curvature correction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from metaloop import Clock, Episode, Key, Learner, Outcome, Spec
from pydantic import Field
from torch import Tensor

from metaloop_icl_gd.embedding import Embedding
from metaloop_icl_gd.regression import regression, rows, size_of, squared_error

Theta = dict[str, Tensor]


class Descent(NamedTuple):
    """Gradient descent on the way, for every task."""

    x: Tensor
    """The context's inputs as transformed so far, `[task, shot, d]`."""
    residual: Tensor
    """What the model leaves of the targets, `[task, shot, outputs]`."""
    transform: Tensor
    """What has been done to the inputs, `[task, d, d]`: `x` is the context's inputs times it."""
    model: Tensor
    """W transposed, `[task, d, outputs]`: predictions are inputs times it."""


class GDPlusPlus(Learner[Theta, Episode, Descent]):
    """`steps` steps of gradient descent on `L(W) = 1/(2N) sum_i |W x_i - y_i|^2` from W = 0 (paper, equation 2).

    With `whiten` each step also multiplies the inputs by `I - gamma X^T X` (GD++, paper, appendix on curvature
    correction), which lets a few steps do the work of many. Theta is `eta` and, with `whiten`, `gamma`: `[1]` where
    all steps share them, else `[step]`. `eta` is the paper's eta / N, as its figures show it.
    """

    steps: int = Field(default=1, ge=1, description="gradient steps K")
    whiten: bool = Field(default=True, description="GD++; False: plain gradient descent")
    shared: bool = Field(default=True, description="one eta (and gamma) for all steps")
    eta: float = Field(default=0.6, description="first step size, over N", allow_inf_nan=False)
    gamma: float = Field(default=0.0, description="first strength of the curvature correction", allow_inf_nan=False)
    embedding: Embedding | None = Field(default=None, description="descend on embedded tokens' last coordinates")
    embedding_scale: float = Field(default=0.002, gt=0, description="variance of the embedding's first weights")

    @classmethod
    def example(cls) -> GDPlusPlus:
        """Two steps of their own sizes."""
        return cls(steps=2, shared=False, eta=0.3, gamma=0.05)

    def check(self, spec: Spec) -> None:
        """Accept regression."""
        regression("GD++", spec)

    def init(self, spec: Spec, key: Key) -> Theta:
        """The fields' step sizes, and random weights of the embedding."""
        theta = self.step_sizes(key.device)
        if self.embedding is not None:
            supervised = regression("GD++", spec)
            token = size_of(supervised) + supervised.outputs
            theta |= self.embedding.init(token, self.embedding_scale, key.fold("embedding"))
        return theta

    def step_sizes(self, device: torch.device | str = "cpu") -> Theta:
        """The fields' step sizes as a theta."""
        n = 1 if self.shared else self.steps
        theta = {"eta": torch.full((n,), self.eta, device=device)}
        return theta | ({"gamma": torch.full((n,), self.gamma, device=device)} if self.whiten else {})

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Descent:
        """W = 0."""
        x, y = self._features(theta, rows(tasks.support_x), tasks.support_y)
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        model = torch.zeros(len(x), x.shape[-1], y.shape[-1], dtype=x.dtype, device=x.device)
        return Descent(x, y, unit.expand(len(x), -1, -1), model)

    def step(self, theta: Theta, state: Descent, tasks: Episode, clock: Clock, keys: Key) -> Descent:
        """One step on the targets and, in GD++, on the inputs, both from the inputs as they were."""
        x, residual, transform, model = state
        eta = self._of_step(theta["eta"], clock)
        change = eta * x.mT @ residual  # [task, d, outputs]
        residual, model = residual - x @ change, model + transform @ change
        if self.whiten:
            gamma = self._of_step(theta["gamma"], clock)
            second = x.mT @ x
            x, transform = x - gamma * x @ second, transform - gamma * transform @ second
        return Descent(x, residual, transform, model)

    def evaluate(self, theta: Theta, state: Descent, tasks: Episode, keys: Key) -> Outcome:
        """The loss on the queries."""
        return squared_error(self.predict(theta, state, tasks.query_x, keys), tasks)

    def predict(self, theta: Theta, state: Descent, inputs: Tensor, keys: Key) -> Tensor:
        """`W x` at inputs `[task, n, *inputs]`: `[task, n, outputs]`."""
        flat = rows(inputs)
        outputs = state.model.shape[-1]
        x, start = self._features(theta, flat, flat.new_zeros(*flat.shape[:2], outputs))
        return x @ state.model - start

    def _features(self, theta: Theta, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets to descend on: as they are, or the embedded token `(x, y)` cut in two."""
        if self.embedding is None:
            return x, y
        embedded = self.embedding(theta, torch.cat([x, y], dim=-1))
        return embedded[..., : -y.shape[-1]], embedded[..., -y.shape[-1] :]

    def _of_step(self, sizes: Tensor, clock: Clock) -> Tensor:
        """The size of each task's step, `[task, 1, 1]` or `[1, 1, 1]`."""
        return (sizes if self.shared else sizes[clock.step.clamp(max=self.steps - 1)])[:, None, None]
