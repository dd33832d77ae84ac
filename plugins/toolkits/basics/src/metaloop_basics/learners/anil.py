"""ANIL: MAML whose inner loop adapts the head alone (Raghu et al. 2020, arXiv:1909.09157)."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from metaloop import tree
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Clock, Episode, Outcome
from metaloop.specs import Spec, SupervisedSpec
from pydantic import Field
from torch import Tensor, nn

from metaloop_basics.learners.maml import descend
from metaloop_basics.learners.supervised import judged, loss, supervised
from metaloop_basics.models import Mlp, Model, Theta

HEAD = ("head.weight", "head.bias")
LINEAR = Mlp(widths=())


class Head(NamedTuple):
    """A task's own head on the shared body's features."""

    own: Theta
    """`head.weight` `[task, outputs, width]` and `head.bias` `[task, outputs]`."""
    features: Tensor
    """Of the support set, `[task, shot, width]`: the body does not adapt, so it runs once."""


class Anil(Learner[Theta, Episode, Head]):
    """Gradient descent of the head on the support set; body and first head are learned.

    Metrics: `before`, the query loss without adaptation; `accuracy` where targets are classes.
    """

    steps: int = Field(default=5, ge=0, description="inner gradient steps")
    inner_lr: float = Field(default=0.1, ge=0, allow_inf_nan=False, description="step size of the inner steps")
    first_order: bool = Field(default=False, description="leave out gradients through the inner steps' gradients")
    model: Model = Field(default=Mlp(), description="the network")

    @classmethod
    def example(cls) -> Self:
        """Two steps of a small smooth network."""
        return cls(steps=2, model=Mlp.example())

    def check(self, spec: Spec) -> None:
        """Accept episodes of a shape that the model takes."""
        self.model.check(supervised(self, spec))

    def init(self, spec: Spec, key: Key) -> Theta:
        """The model's parameters."""
        assert isinstance(spec, SupervisedSpec)
        return self.model.init(spec.inputs, spec.outputs, key)

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Head:
        """Every task starts from theta's head."""
        n = tree.length(tasks)
        own = {name: theta[name].expand(n, *theta[name].shape) for name in HEAD}
        return Head(own, self.model.features(theta, tasks.support_x))

    def step(self, theta: Theta, state: Head, tasks: Episode, clock: Clock, keys: Key) -> Head:
        """One gradient step of the head on the support set."""
        own = descend(LINEAR, state.own, state.features, tasks.support_y, self.inner_lr, self.first_order)
        return state._replace(own=own)

    def evaluate(self, theta: Theta, state: Head, tasks: Episode, keys: Key) -> Outcome:
        """The adapted heads on the query set."""
        features = self.model.features(theta, tasks.query_x)
        with torch.no_grad():
            before = loss(LINEAR.outputs({name: theta[name] for name in HEAD}, features), tasks.query_y)
        return judged(LINEAR.outputs(state.own, features, each=True), tasks.query_y, {"before": before})

    def adapted(self, theta: Theta, state: Head) -> Theta:
        """The adapted heads on copies of the body."""
        n = len(state.features)
        return {name: state.own.get(name, value.expand(n, *value.shape)) for name, value in theta.items()}

    def predict(self, theta: Theta, state: Head, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs (logits for classes) `[task, n, outputs]`."""
        return LINEAR.outputs(state.own, self.model.features(theta, inputs), each=True)

    def module_for(self, spec: Spec) -> nn.Module:
        """The network."""
        assert isinstance(spec, SupervisedSpec)
        return self.model.network(spec.inputs, spec.outputs)
