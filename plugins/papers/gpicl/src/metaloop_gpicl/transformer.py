"""The general-purpose in-context learner: a plain transformer over a data set as a sequence."""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple, Self

import torch
from metaloop import Episode, Incompatible, Key, Outcome, Spec, SupervisedSpec, UserError, functional
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from metaloop_gpicl.incontext import InContextLearner, Read, Theta, as_numbers, embed, rows, shifted, size_of

BASE = 10_000.0
# Under `vmap` (a population of thetas) torch calls its kernel once per member, as fast as its plain attention is.
warnings.filterwarnings("ignore", message=".*batching rule for aten::_scaled_dot_product_flash_attention_for_cpu")


class Cached(NamedTuple):
    """What later tokens attend to in one layer, `[task, head, token, width / heads]` each."""

    keys: Tensor
    values: Tensor


class InContextTransformer(InContextLearner):
    """Pre-norm transformer blocks, as `torch.nn.TransformerEncoderLayer(norm_first=True)` has them.

    In the causal format attention is causal and places matter; in the set format every example attends to all, a query
    to the examples and itself, and places don't exist: predictions do not depend on the examples' order. The state is
    the keys and values of every layer (`T * layers * 2 * width` numbers). Theta is the parameters of `module_for`.
    """

    heads: int = Field(default=4, ge=1, description="attention heads")
    feedforward: int = Field(default=256, ge=1, description="hidden units of each block's MLP")
    positions: Literal["none", "learned", "rotary"] = Field(
        default="none", description="how a token knows its place: a learned vector each, or rotated keys and queries"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse settings that mean nothing together.

        Raises:
            UserError: saying which.
        """
        if self.width % self.heads:
            raise UserError(f"width: {self.width} is not a multiple of heads={self.heads}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise UserError(f"positions: rotary turns pairs, but each head has {self.width // self.heads} numbers")
        if self.format == "set" and self.positions != "none":
            raise UserError("positions: a set has none; use positions=none or format=causal")
        return self

    @classmethod
    def example(cls) -> Self:
        """Two small layers."""
        return cls(width=8, heads=2, feedforward=8)

    def init(self, spec: Spec, key: Key) -> Theta:
        """torch's own initialisation."""
        return functional.parameters(lambda: self.module_for(spec), key)

    def module_for(self, spec: Spec) -> nn.Module:
        """The parts by name: `x`, `y` (to tokens), `layers`, `norm`, `head`, and learned `positions`."""
        assert isinstance(spec, SupervisedSpec)
        parts: dict[str, nn.Module] = {
            "x": nn.Linear(size_of(spec), self.width),
            "y": nn.Linear(spec.outputs, self.width, bias=False),
            "layers": nn.ModuleList([self.block() for _ in range(self.layers)]),
            "norm": nn.LayerNorm(self.width),
            "head": nn.Linear(self.width, spec.outputs),
        }
        if self.positions == "learned":
            parts["positions"] = nn.Embedding(spec.shots + 1, self.width)
        return nn.ModuleDict(parts)

    def block(self) -> nn.TransformerEncoderLayer:
        """One layer as torch has it."""
        return nn.TransformerEncoderLayer(
            self.width, self.heads, self.feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def state_size(self, spec: SupervisedSpec) -> int:
        """Keys and values of every layer."""
        return spec.shots * self.layers * 2 * self.width

    def live(self, theta: Theta, tasks: Episode, keys: Key, longest: int | None = None) -> tuple[Outcome, Read]:
        """A causal sequence that ends with its one query is read in one go; that is the same, and a tenth faster."""
        if self.format == "set" or tasks.query_x.shape[1] > 1:
            return super().live(theta, tasks, keys, longest)
        labels = as_numbers(tasks.support_y, self.outputs(theta, tasks), tasks.support_x)
        memory, outputs = self.read(theta, rows(torch.cat([tasks.support_x, tasks.query_x], 1)), shifted(labels))
        context = tuple(Cached(keys[..., :-1, :], values[..., :-1, :]) for keys, values in memory)
        state = Read(context, labels[:, -1], outputs[:, :-1])
        return self.judged(state, outputs[:, -1:], tasks), state

    def read(self, theta: Theta, x: Tensor, labels: Tensor) -> tuple[tuple[Cached, ...], Tensor]:
        """Keys and values of every layer. In the set format nobody needs what the last layer makes of examples."""
        causal = self.format == "causal"
        tokens = embed(theta, x, labels)
        if self.positions == "learned":
            tokens = tokens + self._places(theta, 0, x.shape[1])
        turns = self._turns(0, x)
        memory = []
        for layer in range(self.layers):
            block = Block(theta, f"layers.{layer}.", self.heads)
            if layer == self.layers - 1 and not causal:
                memory.append(block.cached(tokens, turns))
                break
            queries, cached = block.projected(tokens, turns)
            memory.append(cached)
            tokens = block.moved(tokens, scaled_dot_product_attention(queries, *cached, is_causal=causal))
        outputs = self._head(theta, tokens) if causal else x.new_zeros(len(x), 0, theta["head.bias"].shape[-1])
        return tuple(memory), outputs

    def answer(self, theta: Theta, memory: tuple[Cached, ...], x: Tensor, labels: Tensor | None) -> Tensor:
        """Queries attend to the context and themselves."""
        shots = memory[0].keys.shape[-2]
        tokens = embed(theta, x, labels)
        if self.positions == "learned":
            tokens = tokens + self._places(theta, shots, 1)
        turns = self._turns(shots, x[:, :1])
        for layer, cached in enumerate(memory):
            block = Block(theta, f"layers.{layer}.", self.heads)
            queries, own = block.projected(tokens, turns)
            tokens = block.moved(tokens, _each_alone(queries, own, cached))
        return self._head(theta, tokens)

    def _head(self, theta: Theta, tokens: Tensor) -> Tensor:
        tokens = layer_norm(tokens, tokens.shape[-1:], theta["norm.weight"], theta["norm.bias"])
        return linear(tokens, theta["head.weight"], theta["head.bias"])

    def _places(self, theta: Theta, start: int, n: int) -> Tensor:
        """Learned vectors of `n` places `[n, width]`.

        Raises:
            Incompatible: there are fewer.
        """
        known = theta["positions.weight"]
        if start + n > len(known):
            raise Incompatible(
                f"positions: learned for contexts of {len(known) - 1} examples, this one has more; use positions=rotary"
            )
        return known[start : start + n]

    def _turns(self, start: int, x: Tensor) -> Turns | None:
        """The rotations of the places from `start` on, one for each row of `x`."""
        if self.positions != "rotary":
            return None
        half = self.width // self.heads // 2
        rates = BASE ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
        angles = torch.arange(start, start + x.shape[1], device=x.device, dtype=x.dtype).unsqueeze(-1) * rates
        return Turns(angles.cos(), angles.sin())


def _each_alone(queries: Tensor, own: Cached, cached: Cached) -> Tensor:
    """Attention of each query to what is cached and to itself, `[task, head, query, width / heads]`.

    Written out, for a mask over all queries' keys, and copies of the cache to put them behind, would cost more.
    """
    shots, queries = cached.keys.shape[-2], queries / math.sqrt(queries.shape[-1])
    itself = (queries * own.keys).sum(-1, keepdim=True)
    weights = torch.cat([queries @ cached.keys.mT, itself], -1).softmax(-1)
    return weights[..., :shots] @ cached.values + weights[..., shots:] * own.values


class Turns(NamedTuple):
    """Rotations of pairs of numbers, `[token, width / heads / 2]` each (rotary positions, Su et al. 2021)."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """`x` `[task, head, token, width / heads]`, rotated."""
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], -1)


class Block(NamedTuple):
    """One layer's weights among theta's."""

    theta: Theta
    name: str
    heads: int

    def __call__(self, part: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a part."""
        return self.theta[f"{self.name}{part}.weight"], self.theta[f"{self.name}{part}.bias"]

    def normed(self, part: str, tokens: Tensor) -> Tensor:
        """Layer norm."""
        return layer_norm(tokens, tokens.shape[-1:], *self(part))

    def attention(self, tokens: Tensor, start: int = 0) -> list[Tensor]:
        """Queries, keys and values (from the `start`th of the three on), `[task, head, token, width / heads]`."""
        weight, bias = (self.theta[f"{self.name}self_attn.in_proj_{part}"] for part in ("weight", "bias"))
        skip = start * tokens.shape[-1]
        made = linear(self.normed("norm1", tokens), weight[skip:], bias[skip:])
        shape = (*tokens.shape[:2], self.heads, tokens.shape[-1] // self.heads)
        return [part.reshape(shape).transpose(1, 2) for part in made.chunk(3 - start, -1)]

    def projected(self, tokens: Tensor, turns: Turns | None) -> tuple[Tensor, Cached]:
        """Queries, and what others attend to."""
        queries, keys, values = self.attention(tokens)
        return (queries, Cached(keys, values)) if turns is None else (turns(queries), Cached(turns(keys), values))

    def cached(self, tokens: Tensor, turns: Turns | None) -> Cached:
        """What others attend to, alone."""
        keys, values = self.attention(tokens, start=1)
        return Cached(keys if turns is None else turns(keys), values)

    def moved(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Tokens after the attention's outcome was added, and the MLP's."""
        tokens = tokens + linear(attended.transpose(1, 2).flatten(2), *self("self_attn.out_proj"))
        hidden = gelu(linear(self.normed("norm2", tokens), *self("linear1")))
        return tokens + linear(hidden, *self("linear2"))
