"""MAML: parameters from which a few gradient steps go far (Finn et al. 2017, arXiv:1703.03400)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

import torch
from metaloop import tree
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Clock, Episode, Outcome
from metaloop.specs import Spec, SupervisedSpec
from pydantic import Field
from torch import Tensor, nn

from metaloop_basics.learners.supervised import judged, loss, slope, supervised
from metaloop_basics.models import Mlp, Model, Theta

RATES = "inner_lr."
"""Prefix in theta of the learned rates of the parameter that follows it."""


class Maml(Learner[Theta, Episode, Theta]):
    """Gradient descent on the support set, from a learned start; each task's state is its own parameters.

    Metrics: `before`, the query loss without adaptation; `accuracy` where targets are classes.
    """

    steps: int = Field(default=5, ge=0, description="inner gradient steps")
    inner_lr: float = Field(default=0.01, ge=0, allow_inf_nan=False, description="step size of the inner steps")
    first_order: bool = Field(default=False, description="leave out second derivatives (FOMAML)")
    learn_inner_lr: bool = Field(
        default=False, description="learn a step size for every parameter, from inner_lr on (Meta-SGD, Li et al. 2017)"
    )
    model: Model = Field(default=Mlp(), description="the network")

    @classmethod
    def example(cls) -> Self:
        """Two steps of a small smooth network."""
        return cls(steps=2, inner_lr=0.05, model=Mlp.example())

    def check(self, spec: Spec) -> None:
        """Accept episodes of a shape that the model takes."""
        self.model.check(supervised(self, spec))

    def init(self, spec: Spec, key: Key) -> Theta:
        """The model's parameters, and with `learn_inner_lr` the step sizes."""
        assert isinstance(spec, SupervisedSpec)
        start = self.model.init(spec.inputs, spec.outputs, key)
        if not self.learn_inner_lr:
            return start
        return start | {RATES + name: torch.full_like(value, self.inner_lr) for name, value in start.items()}

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Theta:
        """Every task starts from theta's parameters, `[task, ...]`."""
        n = tree.length(tasks)
        return {name: value.expand(n, *value.shape) for name, value in _start(theta).items()}

    def step(self, theta: Theta, state: Theta, tasks: Episode, clock: Clock, keys: Key) -> Theta:
        """One gradient step on the support set."""
        rates = {name: theta[RATES + name] for name in state} if self.learn_inner_lr else self.inner_lr
        return descend(self.model, state, tasks.support_x, tasks.support_y, rates, self.first_order)

    def evaluate(self, theta: Theta, state: Theta, tasks: Episode, keys: Key) -> Outcome:
        """The adapted parameters on the query set."""
        with torch.no_grad():
            before = loss(self.model.outputs(_start(theta), tasks.query_x), tasks.query_y)
        return judged(self.model.outputs(state, tasks.query_x, each=True), tasks.query_y, {"before": before})

    def adapted(self, theta: Theta, state: Theta) -> Theta:
        """The adapted parameters; step sizes are as they were."""
        n = tree.length(state)
        return {name: state[name] if name in state else value.expand(n, *value.shape) for name, value in theta.items()}

    def predict(self, theta: Theta, state: Theta, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs (logits for classes) `[task, n, outputs]`."""
        return self.model.outputs(state, inputs, each=True)

    def module_for(self, spec: Spec) -> nn.Module:
        """The network; learned step sizes are parameters of a child called `inner_lr`, which takes no part in it."""
        assert isinstance(spec, SupervisedSpec)
        network = self.model.network(spec.inputs, spec.outputs)
        return WithRates(network, self.model.network(spec.inputs, spec.outputs)) if self.learn_inner_lr else network


class WithRates(nn.Sequential):
    """A network that carries step sizes for its parameters."""

    def __init__(self, network: nn.Sequential, rates: nn.Sequential) -> None:
        super().__init__(OrderedDict(network.named_children()))
        self.inner_lr = rates

    def forward(self, input: Tensor) -> Tensor:
        """The network's outputs."""
        for name, layer in self.named_children():
            if name != "inner_lr":
                input = layer(input)
        return input


def _start(theta: Theta) -> Theta:
    """The model's part of theta."""
    return {name: value for name, value in theta.items() if not name.startswith(RATES)}


def descend(model: Model, state: Theta, x: Tensor, y: Tensor, rates: Theta | float, first_order: bool) -> Theta:
    """One gradient step of each task's own parameters on its examples.

    Args:
        model: the network.
        state: parameters, each with a leading task axis.
        x: inputs `[task, rows, *inputs]`.
        y: targets.
        rates: one step size, or one for each entry of each parameter (shared by all tasks).
        first_order: no gradient passes through this step's gradient.
    """
    outputs, pull = model.vjp(tree.detach(state), x.detach()) if first_order else model.vjp(state, x)
    if isinstance(rates, dict):
        gradient = pull(slope(outputs, y))
        return {name: value - rates[name] * gradient[name] for name, value in state.items()}
    # The step size goes in where tensors are small: a plain sum of parameters then costs nothing in the backward pass.
    update = pull(slope(outputs, y) * -rates)
    return {name: value + update[name] for name, value in state.items()}
