"""VSML: one small recurrent network, shared by all connections between inputs and outputs, that learns to learn.

Kirsch and Schmidhuber 2021 (arXiv:2012.14905), from memory and without the paper at hand: one layer of connections.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from metaloop import Episode, Key, Spec, SupervisedSpec
from metaloop_basics.learners.supervised import check_ways, supervised
from pydantic import Field
from torch import Tensor
from torch.nn.functional import linear

from metaloop_gpicl.incontext import InContextLearner, Theta, size_of


class Connections(NamedTuple):
    """The memory of the network on every connection, `[..., input, output, width]` each."""

    output: Tensor
    cell: Tensor


class Vsml(InContextLearner):
    """An LSTM of `width` units with the same weights sits on each connection from an input to an output.

    In every tick it sees its input's number, its output's label, and what the connections that share its output
    (forward message) or its input (backward message) said together. An example takes `ticks` of them. The state is
    `2 * inputs * outputs * width` numbers with some hundred weights; a permutation of labels permutes predictions.
    """

    width: int = Field(default=8, ge=1, description="units of the network on each connection")
    layers: int = Field(default=1, ge=1, le=1, description="one layer of connections")
    ways: int = Field(default=5, ge=2, description="classes of an episode, where targets are classes")
    ticks: int = Field(default=2, ge=1, description="steps of the network for each example")

    @classmethod
    def example(cls) -> Self:
        """Three units and ways."""
        return cls(width=3, ways=3, ticks=1)

    @classmethod
    def connections(cls, x: Tensor, outputs: int, width: int) -> Connections:
        """Memory of zeros for inputs `[task, ..., size]`."""
        zeros = x.new_zeros(len(x), x.shape[-1], outputs, width)
        return Connections(zeros, zeros)

    def check(self, spec: Spec) -> None:
        """Accept episodes of numbers, and of `ways` classes.

        Raises:
            Incompatible: there are other than `ways` classes.
        """
        episodes = supervised(self, spec)
        if episodes.target == "class":
            check_ways(self, self.ways, episodes)

    def init(self, spec: Spec, key: Key) -> Theta:
        """Normal weights of variance 1 / inputs; forget gates (the second) open."""
        n = self.width
        shapes = {"x": 1, "y": 1, "forward": n, "backward": n, "hidden": n}
        theta = {f"{name}.weight": key.fold(name).normal(4 * n, size) / size**0.5 for name, size in shapes.items()}
        theta["bias"] = theta["x.weight"].new_zeros(4 * n)
        theta["bias"][n : 2 * n] = 1.0
        theta["labelled"] = torch.zeros_like(theta["bias"])
        theta["head"] = key.fold("head").normal(n)
        return theta

    def outputs(self, theta: Theta, tasks: Episode) -> int:
        """`ways`, or the width of real targets."""
        return self.ways if tasks.support_y.ndim == 2 else tasks.support_y.shape[-1]

    def state_size(self, spec: SupervisedSpec) -> int:
        """Outputs and cells of all connections."""
        return 2 * size_of(spec) * spec.outputs * self.width

    def read(self, theta: Theta, x: Tensor, labels: Tensor) -> tuple[Connections, Tensor]:
        """All connections after the last example."""
        memory, made = self.connections(x, labels.shape[-1], self.width), []
        for inputs, label in zip(x.unbind(1), labels.unbind(1), strict=True):
            memory = self._example(theta, memory, inputs, label)
            made.append(self._head(theta, memory))
        outputs = torch.stack(made, 1)
        return memory, outputs if self.format == "causal" else outputs[:, :0]

    def answer(self, theta: Theta, memory: Connections, x: Tensor, labels: Tensor | None) -> Tensor:
        """One more example for each query, from the same memory."""
        start = Connections(*(part.unsqueeze(1) for part in memory))
        return self._head(theta, self._example(theta, start, x, labels))

    def _example(self, theta: Theta, memory: Connections, x: Tensor, label: Tensor | None) -> Connections:
        """All ticks of examples `[..., input]` with labels `[..., output]` (None: none)."""
        seen = x[..., None, None] * theta["x.weight"][:, 0] + theta["bias"]  # [..., input, 1, gates]
        if label is not None:
            seen = seen + (label[..., None, :, None] * theta["y.weight"][:, 0] + theta["labelled"])
        for _ in range(self.ticks):
            memory = self._tick(theta, memory, seen)
        return memory

    def _tick(self, theta: Theta, memory: Connections, seen: Tensor) -> Connections:
        output, cell = memory
        gates = seen + linear(output, theta["hidden.weight"])
        gates = gates + linear(_together(output, -3), theta["forward.weight"])
        gates = gates + linear(_together(output, -2), theta["backward.weight"])
        open_, candidate = torch.split(gates, [3 * self.width, self.width], -1)
        i, f, o = open_.sigmoid().chunk(3, -1)
        cell = f * cell + i * candidate.tanh()
        return Connections(o * cell.tanh(), cell)

    def _head(self, theta: Theta, memory: Connections) -> Tensor:
        """Each output's number, from what its connections say together: `[..., output]`."""
        return _together(memory.output, -3).squeeze(-3) @ theta["head"]


def _together(output: Tensor, dim: int) -> Tensor:
    """The sum over connections, scaled so that independent ones give the size of one."""
    return output.sum(dim, keepdim=True) / math.sqrt(output.shape[dim])
