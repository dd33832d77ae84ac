"""A transformer of (linear) self-attention layers that learns regression in context."""

from __future__ import annotations

from typing import Literal, Self

import torch
from metaloop import Episode, Incompatible, Key, Learner, Outcome, Spec
from pydantic import Field, model_validator
from torch import Tensor

from metaloop_icl_gd.alignment import compare, response
from metaloop_icl_gd.attention import Products, attend, implied_map, products
from metaloop_icl_gd.copying import copying
from metaloop_icl_gd.embedding import Embedding, sinusoids, variance_scaling
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.regression import regression, rows, size_of, squared_error

Theta = dict[str, Tensor]


class LSATransformer(Learner[Theta, Episode, Tensor]):
    """Layers of linear self-attention (LSA) over a context's tokens; a query's prediction is minus its last slot.

    Tokens are `(x_i, y_i)` for the context and `(x_q, 0)` for a query; keys and values come from the context alone.
    Theta holds `query`, `key`, `value` `[layer, head, key, width]` and `projection` `[layer, head, width, key]` (one
    layer where weights are shared), and the weights of the parts that are switched on. There are no inner steps:
    `begin` reads the context. Where layers are linear attention alone the state is the linear map that they are to a
    query's token (`attention.implied_map`), otherwise the context's tokens before each layer, `[task, layer, token,
    width]`.
    """

    steps: int = Field(default=0, ge=0, le=0, description="a transformer takes no inner steps")
    layers: int = Field(default=1, ge=1, description="attention layers K")
    recurrent: bool = Field(default=True, description="one set of weights for all layers")
    heads: int = Field(default=1, ge=1, description="attention heads")
    key_size: int | None = Field(default=None, ge=1, description="width of keys and values; None: the token's")
    softmax: Literal["none", "first", "all"] = Field(default="none", description="layers with softmax attention")
    layer_norm: bool = Field(default=False, description="normalise tokens before each attention and MLP")
    mlp: int = Field(default=0, ge=0, description="an MLP this many times as wide after each attention; 0: none")
    embedding: Embedding | None = Field(default=None, description="what tokens pass through first")
    tokens: Literal["joint", "separate"] = Field(default="joint", description="x and y in one token or one after other")
    positions: int = Field(default=0, ge=0, description="sinusoidal position numbers appended to each token")
    init_scale: float = Field(default=0.002, gt=0, description="variance of first weights times layers times fan-in")
    clamp: float | None = Field(default=None, gt=0, description="largest size of an activation after each layer")
    damping: float = Field(default=1.0, description="lambda, the factor on every layer's update", allow_inf_nan=False)
    y_only: bool = Field(default=False, description="layers leave the input's coordinates as they are")
    reference: GDPlusPlus | None = Field(
        default=None, description="evaluations also measure alignment with this gradient descent at its first theta"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse settings that mean nothing together."""
        if self.tokens == "separate" and self.embedding is not None:
            raise Incompatible("embedding: separate tokens have none; use tokens='joint'")
        if self.y_only and not self.linear:
            raise Incompatible("y_only: is for linear layers of joint tokens without norm, MLP and clamp")
        if self.reference is not None and self.reference.embedding is not None:
            raise Incompatible("reference: must descend on the inputs themselves, without an embedding")
        if self.positions and self.tokens == "joint":
            raise Incompatible("positions are for tokens='separate': a context of joint tokens has no order")
        return self

    @classmethod
    def example(cls) -> LSATransformer:
        """Two layers of two heads."""
        return cls(layers=2, heads=2, init_scale=1.0)

    @property
    def linear(self) -> bool:
        """Whether tokens pass through linear attention and nothing else once they are made: queries map linearly."""
        parts = (self.layer_norm, self.mlp, self.clamp, self.tokens == "separate")
        return self.softmax == "none" and not any(parts)

    def check(self, spec: Spec) -> None:
        """Accept regression; separate tokens need one output."""
        supervised = regression("LSATransformer", spec)
        if self.tokens == "separate" and supervised.outputs != 1:
            raise Incompatible(f"separate tokens hold one target, but these tasks have {supervised.outputs}")

    def init(self, spec: Spec, key: Key) -> Theta:
        """Small random weights, `variance_scaling` with `init_scale / layers`."""
        supervised = regression("LSATransformer", spec)
        scale = self.init_scale / self.layers
        token = size_of(supervised) + (supervised.outputs if self.tokens == "joint" else self.positions)
        theta: Theta = {}
        if self.embedding is not None:
            theta |= self.embedding.init(token, scale, key.fold("embedding"))
            token = self.embedding.width
        n, size = (1 if self.recurrent else self.layers), self.key_size or token
        for name in ("query", "key", "value"):
            theta[name] = variance_scaling(key.fold(name), (n, self.heads, size, token), scale, fan_in=token)
        shape = (n, self.heads, token, size)
        theta["projection"] = variance_scaling(key.fold("projection"), shape, scale, fan_in=self.heads * size)
        if self.mlp:
            hidden = self.mlp * token
            theta["mlp.in"] = variance_scaling(key.fold("mlp.in"), (n, token, hidden), scale, fan_in=token)
            theta["mlp.out"] = variance_scaling(key.fold("mlp.out"), (n, hidden, token), scale, fan_in=hidden)
        if self.layer_norm:
            for part in ("attention", "mlp") if self.mlp else ("attention",):
                theta[f"norm.{part}.scale"] = torch.ones(n, token, device=key.device)
                theta[f"norm.{part}.offset"] = torch.zeros(n, token, device=key.device)
        return theta

    def begin(self, theta: Theta, tasks: Episode, keys: Key) -> Tensor:
        """Read the context."""
        context = self.context_tokens(theta, tasks)
        if self.linear:
            outputs = tasks.support_y.shape[-1]
            return implied_map(self._products(theta, outputs), self.layers, context, outputs)
        before = [context]
        for layer in range(self.layers - 1):
            before.append(self.layer(theta, layer, before[-1], before[-1]))
        return torch.stack(before, dim=1)

    def evaluate(self, theta: Theta, state: Tensor, tasks: Episode, keys: Key) -> Outcome:
        """The loss on the queries; outside training also what `probes` finds."""
        outcome = squared_error(self.predict(theta, state, tasks.query_x, keys), tasks)
        if torch.is_grad_enabled():  # a training step: probes take derivatives of their own, which nobody reads here
            return outcome
        return outcome._replace(metrics=self._probes(outcome, theta, state, tasks, keys))

    def predict(self, theta: Theta, state: Tensor, inputs: Tensor, keys: Key) -> Tensor:
        """Predictions `[task, n, outputs]` at inputs `[task, n, *inputs]`."""
        x = rows(inputs)
        if self.linear and self.embedding is None:
            return -x @ state[..., : x.shape[-1]].mT  # the map's other columns are for the query's empty slot
        tokens, outputs = self._query_tokens(theta, x, state)
        if self.linear:
            return -tokens @ state.mT
        for layer in range(self.layers):
            tokens = self.layer(theta, layer, tokens, state[:, layer])
        return -tokens[..., -outputs:]

    def context_tokens(self, theta: Theta, tasks: Episode) -> Tensor:
        """The context's tokens before the first layer, `[task, token, width]`."""
        x, y = rows(tasks.support_x), tasks.support_y
        if self.tokens == "joint":
            tokens = torch.cat([x, y], dim=-1)
            return tokens if self.embedding is None else self.embedding(theta, tokens)
        y = torch.cat([x.new_zeros(*x.shape[:2], x.shape[-1] - 1), y], dim=-1)
        pairs = torch.stack([x, y], dim=2).flatten(1, 2)  # x_1, y_1, x_2, y_2, ...
        return self._placed(pairs, sinusoids(pairs.shape[1], self.positions))

    def layer(self, theta: Theta, layer: int, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens `[task, n, width]` after one layer that attends to `context` `[task, token, width]`."""
        own = 0 if self.recurrent else layer
        softmax = self.softmax == "all" or (self.softmax == "first" and layer == 0)
        normed = self._normed(theta, own, "attention", tokens), self._normed(theta, own, "attention", context)
        key_size = theta["key"].shape[-2] if softmax else None
        tokens = self._moved(tokens, attend(products(theta).of(layer), *normed, key_size))
        if self.mlp:
            hidden = self._normed(theta, own, "mlp", tokens) @ theta["mlp.in"][own]
            hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
            tokens = self._moved(tokens, hidden @ theta["mlp.out"][own])
        return tokens

    def _query_tokens(self, theta: Theta, x: Tensor, state: Tensor) -> tuple[Tensor, int]:
        """Queries' tokens before the first layer, and how many of the last coordinates are the prediction's."""
        if self.tokens == "separate":
            length = state.shape[2]
            return self._placed(x, sinusoids(length + 1, self.positions)[length:]), 1
        token = state.shape[-1] if self.embedding is None else theta["embedding.linear"].shape[-2]
        outputs = token - x.shape[-1]
        tokens = torch.cat([x, x.new_zeros(*x.shape[:2], outputs)], dim=-1)
        return (tokens if self.embedding is None else self.embedding(theta, tokens)), outputs

    def _placed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens with the positions `[n or 1, size]` appended to each."""
        return torch.cat([tokens, positions.to(tokens).expand(*tokens.shape[:2], -1)], dim=-1)

    def _products(self, theta: Theta, outputs: int) -> Products:
        """The layers' products with `damping` and `y_only` in them."""
        kq, pv = products(theta)
        if self.damping != 1.0:
            pv = self.damping * pv
        if self.y_only:
            pv = pv * (torch.arange(pv.shape[-1], device=pv.device) >= pv.shape[-1] - outputs)[:, None]
        return Products(kq, pv)

    def _moved(self, tokens: Tensor, update: Tensor) -> Tensor:
        tokens = tokens + self.damping * update
        return tokens if self.clamp is None else tokens.clamp(-self.clamp, self.clamp)

    def _normed(self, theta: Theta, layer: int, part: str, tokens: Tensor) -> Tensor:
        if not self.layer_norm:
            return tokens
        scale, offset = theta[f"norm.{part}.scale"][layer], theta[f"norm.{part}.offset"][layer]
        return torch.nn.functional.layer_norm(tokens, tokens.shape[-1:]) * scale + offset

    def _probes(self, outcome: Outcome, theta: Theta, state: Tensor, tasks: Episode, keys: Key) -> dict[str, Tensor]:
        """Alignment with the reference, and copying where tokens are separate."""
        found: dict[str, Tensor] = {}
        if self.reference is not None:
            sizes = self.reference.step_sizes(keys.device)
            theirs, descent = self.reference.live(sizes, tasks, keys)
            alignment = compare(
                (outcome, *response(self, theta, state, tasks.query_x, keys)),
                (theirs, *response(self.reference, sizes, descent, tasks.query_x, keys)),
            )._asdict()
            found |= {name: value for name, value in alignment.items() if name != "loss"}
        if self.tokens == "separate":
            found |= copying(self, theta, tasks)._asdict()
        return found
