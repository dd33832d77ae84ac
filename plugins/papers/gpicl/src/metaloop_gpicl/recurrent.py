"""Recurrent learners: an LSTM, and one whose memory is a matrix of fast weights (the ladder of state sizes)."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Self

import torch
from metaloop import Key, Spec, SupervisedSpec
from torch import Tensor
from torch.nn.functional import normalize

from metaloop_gpicl.incontext import InContextLearner, Theta, embed, size_of


class Hidden(NamedTuple):
    """One layer's memory."""

    output: Tensor
    """`[..., width]`."""
    cell: Tensor
    """`[..., width]`, or `[..., width, width]` of fast weights."""


class Recurrent(InContextLearner):
    """Layers of cells that read one token after the other; a query is one more step from the context's end."""

    @classmethod
    def example(cls) -> Self:
        """Two narrow layers."""
        return cls(width=4)

    @property
    @abstractmethod
    def gates(self) -> int:
        """How many vectors of `width` a cell makes of its input and last output."""

    @abstractmethod
    def start(self, x: Tensor) -> Hidden:
        """A layer's memory before the first token, `[task, ...]`; `x` is any tensor `[task, ...]`."""

    @abstractmethod
    def cell(self, gates: Tensor, cell: Tensor) -> Hidden:
        """One step, from `gates` `[..., gates * width]`."""

    def init(self, spec: Spec, key: Key) -> Theta:
        """Normal weights of variance 1 / inputs; forget gates (the second) open."""
        assert isinstance(spec, SupervisedSpec)
        size, outputs, width = size_of(spec), spec.outputs, self.width
        shapes = {"x": (width, size), "y": (width, outputs), "head": (outputs, width)}
        for layer in range(self.layers):
            shapes |= {f"input.{layer}": (self.gates * width, width), f"hidden.{layer}": (self.gates * width, width)}
        theta = {f"{name}.weight": key.fold(name).normal(*shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
        for name in ("x", "head", *(f"input.{layer}" for layer in range(self.layers))):
            theta[f"{name}.bias"] = theta[f"{name}.weight"].new_zeros(shapes[name][0])
        for layer in range(self.layers):
            theta[f"input.{layer}.bias"][width : 2 * width] = 1.0
        return theta

    def read(self, theta: Theta, x: Tensor, labels: Tensor) -> tuple[tuple[Hidden, ...], Tensor]:
        """Every layer's memory after the last token."""
        tokens, memory = embed(theta, x, labels), []
        for layer in range(self.layers):
            hidden, made = self.start(x), []
            for inputs in self._inputs(theta, layer, tokens).unbind(1):
                hidden = self._step(theta, layer, inputs, hidden)
                made.append(hidden.output)
            memory.append(hidden)
            tokens = torch.stack(made, 1)
        outputs = self._head(theta, tokens)
        return tuple(memory), outputs if self.format == "causal" else outputs[:, :0]

    def answer(self, theta: Theta, memory: tuple[Hidden, ...], x: Tensor, labels: Tensor | None) -> Tensor:
        """One step for each query, from the same memory."""
        tokens = embed(theta, x, labels)
        for layer, (output, cell) in enumerate(memory):
            hidden = Hidden(output.unsqueeze(1), cell.unsqueeze(1))
            tokens = self._step(theta, layer, self._inputs(theta, layer, tokens), hidden).output
        return self._head(theta, tokens)

    def _inputs(self, theta: Theta, layer: int, tokens: Tensor) -> Tensor:
        """What all tokens give to a layer's gates."""
        return torch.nn.functional.linear(tokens, theta[f"input.{layer}.weight"], theta[f"input.{layer}.bias"])

    def _step(self, theta: Theta, layer: int, inputs: Tensor, hidden: Hidden) -> Hidden:
        return self.cell(inputs + hidden.output @ theta[f"hidden.{layer}.weight"].mT, hidden.cell)

    def _head(self, theta: Theta, tokens: Tensor) -> Tensor:
        return torch.nn.functional.linear(tokens, theta["head.weight"], theta["head.bias"])


class Lstm(Recurrent):
    """An LSTM (Hochreiter and Schmidhuber 1997); the state is `2 * layers * width` numbers."""

    @property
    def gates(self) -> int:
        """Input, forget, output, candidate."""
        return 4

    def start(self, x: Tensor) -> Hidden:
        """Zeros."""
        zeros = x.new_zeros(len(x), self.width)
        return Hidden(zeros, zeros)

    def cell(self, gates: Tensor, cell: Tensor) -> Hidden:
        """`c = f c + i g`, `h = o tanh(c)`."""
        open_, candidate = torch.split(gates, [3 * self.width, self.width], -1)
        i, f, o = open_.sigmoid().chunk(3, -1)
        cell = f * cell + i * candidate.tanh()
        return Hidden(o * cell.tanh(), cell)

    def state_size(self, spec: SupervisedSpec) -> int:
        """Outputs and cells."""
        return 2 * self.layers * self.width


class OuterProductLstm(Recurrent):
    """An LSTM whose cell is a matrix, written by outer products (fast weights, Schmidhuber 1992).

    `C = f C + (i tanh(g)) k^T` row by row, `h = o tanh(C q)`, with keys `k` and queries `q` of length 1. The state is
    `layers * (width^2 + width)` numbers. The paper's own outer-product LSTM was not read; this is what its name says.
    """

    @property
    def gates(self) -> int:
        """Input, forget, output, value, key, query."""
        return 6

    def start(self, x: Tensor) -> Hidden:
        """Zeros."""
        return Hidden(x.new_zeros(len(x), self.width), x.new_zeros(len(x), self.width, self.width))

    def cell(self, gates: Tensor, cell: Tensor) -> Hidden:
        """One write and one read."""
        open_, value, key, query = torch.split(gates, [3 * self.width, *3 * [self.width]], -1)
        i, f, o = open_.sigmoid().chunk(3, -1)
        written = (i * value.tanh()).unsqueeze(-1) * normalize(key, dim=-1).unsqueeze(-2)
        cell = f.unsqueeze(-1) * cell + written
        return Hidden(o * (cell @ normalize(query, dim=-1).unsqueeze(-1)).squeeze(-1).tanh(), cell)

    def state_size(self, spec: SupervisedSpec) -> int:
        """Outputs and matrices."""
        return self.layers * (self.width**2 + self.width)
