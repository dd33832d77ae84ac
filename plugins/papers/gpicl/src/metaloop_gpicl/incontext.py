"""What the black-box learners share: a context is read as a sequence, and queries are predicted from what was kept."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from metaloop import Episode, Key, Learner, Outcome, Spec, SupervisedSpec
from metaloop.outcome import outcome
from metaloop_basics.learners.supervised import judged, loss, supervised
from pydantic import Field
from torch import Tensor

Theta = dict[str, Tensor]
Format = Literal["set", "causal"]


class Read(NamedTuple):
    """What a learner keeps of a context."""

    memory: Any
    """Keys and values, or hidden states: tensors `[task, ...]`."""
    last: Tensor
    """The last example's label as numbers, `[task, outputs]`: in the causal format a query's token has it."""
    outputs: Tensor
    """Predictions at the context's own places, `[task, shot, outputs]`; none in the set format, where labels are in."""


class InContextLearner(Learner[Theta, Episode, Read]):
    """A sequence model that learns from a context without inner steps: `begin` reads it, `evaluate` predicts.

    In the `causal` format (the paper's, section 3) token t is `(x_t, y_{t-1})`, a query is the token after the
    context's, and the loss is the mean over all places of the context and queries. In the `set` format tokens are
    `(x_t, y_t)`, queries are `(x, 0)`, and only these are predicted: one matching of inputs is to be learned instead of
    shifting and matching, which takes far fewer steps. Labels that are classes enter as indicators, real ones as they
    are. Metric: `accuracy` on the queries, for classes. The fitness is minus the loss on the queries.
    """

    format: Format = Field(default="set", description="how examples become tokens")
    width: int = Field(default=64, ge=1, description="width of tokens or of the hidden state")
    layers: int = Field(default=2, ge=1, description="layers")

    steps: int = Field(default=0, ge=0, le=0, description="none: learning is in the forward pass")

    def check(self, spec: Spec) -> None:
        """Accept any episodes with examples, of classes or real targets."""
        supervised(self, spec)

    @abstractmethod
    def state_size(self, spec: SupervisedSpec) -> int:
        """Numbers kept of one context of `spec.shots` examples."""

    def outputs(self, theta: Theta, tasks: Episode) -> int:
        """Classes, or the width of targets."""
        return theta["head.bias"].shape[-1]

    @abstractmethod
    def read(self, theta: Theta, x: Tensor, labels: Tensor) -> tuple[Any, Tensor]:
        """Memory, and predictions `[task, shot, outputs]` (none in the set format).

        Args:
            theta: weights.
            x: inputs `[task, shot, size]`.
            labels: what tokens hold beside them, `[task, shot, outputs]`.
        """

    @abstractmethod
    def answer(self, theta: Theta, memory: Any, x: Tensor, labels: Tensor | None) -> Tensor:
        """Predictions `[task, query, outputs]`, each query alone after the context.

        Args:
            theta: weights.
            memory: what was read.
            x: inputs `[task, query, size]`.
            labels: what tokens hold beside them, `[task, 1, outputs]`; None: zeros.
        """

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Read:
        """Read the context."""
        x = rows(tasks.support_x)
        labels = as_numbers(tasks.support_y, self.outputs(theta, tasks), x)
        memory, outputs = self.read(theta, x, shifted(labels)[:, :-1] if self.format == "causal" else labels)
        return Read(memory, labels[:, -1], outputs)

    def evaluate(self, theta: Theta, state: Read, tasks: Episode, keys: Key) -> Outcome:
        """The loss on the queries, in the causal format with that at all places of the context."""
        return self.judged(state, self.predict(theta, state, tasks.query_x, keys), tasks)

    def judged(self, state: Read, outputs: Tensor, tasks: Episode) -> Outcome:
        """The outcome of predictions for the queries, `[task, query, outputs]`."""
        found = judged(outputs, tasks.query_y)
        if self.format == "set":
            return found
        everywhere = loss(torch.cat([state.outputs, outputs], 1), torch.cat([tasks.support_y, tasks.query_y], 1))
        return outcome(everywhere, found.fitness, found.metrics)

    def predict(self, theta: Theta, state: Read, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs (logits for classes) `[task, n, outputs]`."""
        labels = state.last.unsqueeze(1) if self.format == "causal" else None
        return self.answer(theta, state.memory, rows(inputs), labels)


def as_numbers(y: Tensor, outputs: int, like: Tensor) -> Tensor:
    """Labels `[task, shot]` as indicators `[task, shot, outputs]` of the dtype of `like`; real ones as they are."""
    if y.is_floating_point():
        return y
    return (y.unsqueeze(-1) == torch.arange(outputs, device=y.device)).to(like.dtype)


def shifted(labels: Tensor) -> Tensor:
    """Every place's label before it, `[task, shot + 1, outputs]`: none before the first, the last one for a query."""
    return torch.nn.functional.pad(labels, (0, 0, 1, 0))


def rows(x: Tensor) -> Tensor:
    """Inputs `[task, n, *inputs]` as rows `[task, n, size]`."""
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(-1)


def size_of(spec: SupervisedSpec) -> int:
    """Numbers in one input."""
    return math.prod(spec.inputs)


def parameters(theta: Theta) -> int:
    """How many meta-parameters there are."""
    return sum(value.numel() for value in theta.values())


def embed(theta: Theta, x: Tensor, labels: Tensor | None) -> Tensor:
    """Tokens `W_x x + W_y y + b`: a linear map of the pair."""
    tokens = torch.nn.functional.linear(x, theta["x.weight"], theta["x.bias"])
    return tokens if labels is None else tokens + labels @ theta["y.weight"].mT
