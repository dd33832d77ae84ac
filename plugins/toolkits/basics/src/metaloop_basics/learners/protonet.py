"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175)."""

from __future__ import annotations

from typing import Self

from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Episode, Outcome
from metaloop.specs import Spec, SupervisedSpec
from pydantic import Field
from torch import Tensor, nn

from metaloop_basics.learners.supervised import check_ways, judged, one_hot, supervised
from metaloop_basics.models import ConvNet, Mlp, Model, Theta


class ProtoNet(Learner[Theta, Episode, Tensor]):
    """Classify by the nearest class mean (prototype) in a learned space; the state is the prototypes.

    A class without examples has its prototype at the origin. Metric: `accuracy`.
    """

    steps: int = Field(default=0, ge=0, le=0, description="none: prototypes are means")
    ways: int = Field(default=5, ge=2, description="classes of an episode, as the tasks have them")
    model: Model = Field(default=ConvNet(), description="the network; its body makes the space")

    @classmethod
    def example(cls) -> Self:
        """Three ways, a small smooth network."""
        return cls(ways=3, model=Mlp.example())

    def check(self, spec: Spec) -> None:
        """Accept episodes with `ways` classes, of a shape that the model takes.

        Raises:
            Incompatible: targets are real numbers, or there are other than `ways` classes.
        """
        episodes = supervised(self, spec)
        if episodes.target != "class":
            raise Incompatible("ProtoNet needs classes, these tasks have real targets: use basics/maml or basics/ridge")
        check_ways(self, self.ways, episodes)
        self.model.check(episodes)

    def init(self, spec: Spec, key: Key) -> Theta:
        """The body's parameters."""
        assert isinstance(spec, SupervisedSpec)
        return self.model.init(spec.inputs, None, key)

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Tensor:
        """Prototypes `[task, ways, width]`: each class's mean features."""
        features = self.model.features(theta, tasks.support_x)
        members = one_hot(tasks.support_y, self.ways, features)  # [task, shot, ways]
        return (members.mT @ features) / members.sum(1).clamp(min=1).unsqueeze(-1)

    def evaluate(self, theta: Theta, state: Tensor, tasks: Episode, keys: Key) -> Outcome:
        """The cross-entropy of the queries' classes."""
        return judged(self.predict(theta, state, tasks.query_x, keys), tasks.query_y)

    def predict(self, theta: Theta, state: Tensor, inputs: Tensor, keys: Key) -> Tensor:
        """Logits `[task, n, ways]`: minus the squared Euclidean distance to each prototype.

        Less the input's own squared norm, which is the same for all classes.
        """
        features = self.model.features(theta, inputs)
        return 2 * features @ state.mT - state.square().sum(-1).unsqueeze(1)

    def module_for(self, spec: Spec) -> nn.Module:
        """The body: inputs to the space in which distances count."""
        assert isinstance(spec, SupervisedSpec)
        return self.model.network(spec.inputs, None)
