"""Networks as pure functions of named parameters: a body that makes features, and a linear head.

Every method works on a batch of tasks at once. Parameters are shared by all tasks, or each task has its own
(`each=True`: every tensor has a leading task axis).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from metaloop import functional
from metaloop.component import Component
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.specs import SupervisedSpec
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.func import vjp, vmap

Theta = dict[str, Tensor]
Pull = Callable[[Tensor], Theta]
"""The gradient with respect to parameters, given that with respect to outputs `[task, rows, outputs]`."""


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x W^T + b` for `x` `[task, rows, in]` and `W` `[out, in]`, or `[task, out, in]` where each task has its own."""
    product = torch.bmm(x, weight.mT) if weight.ndim == 3 else x @ weight.mT  # bmm: `@` costs a fifth more per step
    return product + bias.unsqueeze(-2)


class Model(Component):
    """A network with a body and a linear head, whose parameters are called `head.weight` and `head.bias`."""

    def check(self, spec: SupervisedSpec) -> None:
        """Accept inputs of a shape, or raise `Incompatible`."""

    def network(self, inputs: tuple[int, ...], outputs: int | None) -> nn.Sequential:
        """The network as an `nn.Module`; its body alone where `outputs` is None."""
        raise NotImplementedError(f"{type(self).__name__} must implement network")

    def init(self, inputs: tuple[int, ...], outputs: int | None, key: Key) -> Theta:
        """First parameters, by torch's own initialisation."""
        return functional.parameters(lambda: self.network(inputs, outputs), key)

    def body(self, theta: Theta, x: Tensor) -> Tensor:
        """Features `[rows, width]` of one task's inputs `[rows, *inputs]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement body")

    def features(self, theta: Theta, x: Tensor, *, each: bool = False) -> Tensor:
        """Features `[task, rows, width]` of inputs `[task, rows, *inputs]`."""
        found: Tensor = vmap(self.body, in_dims=(0 if each else None, 0))(theta, x)
        return found

    def outputs(self, theta: Theta, x: Tensor, *, each: bool = False) -> Tensor:
        """Outputs `[task, rows, outputs]` at inputs `[task, rows, *inputs]`."""
        return linear(self.features(theta, x, each=each), theta["head.weight"], theta["head.bias"])

    def vjp(self, theta: Theta, x: Tensor) -> tuple[Tensor, Pull]:
        """Outputs at `x` where each task has its own parameters, and how to pull gradients back to those."""
        result: Any = vjp(lambda own: self.outputs(own, x, each=True), theta)
        outputs, pull = result
        return outputs, lambda slope: pull(slope)[0]


class Mlp(Model):
    """A multi-layer perceptron; inputs of any shape are flattened. Without hidden layers it is a linear model."""

    widths: tuple[PositiveInt, ...] = Field(
        default=(40, 40), description="units of each hidden layer (Finn et al.: 40)"
    )
    activation: Literal["relu", "tanh"] = Field(default="relu", description="non-linearity of the hidden layers")

    @classmethod
    def example(cls) -> Self:
        """One small smooth layer."""
        return cls(widths=(8,), activation="tanh")

    def network(self, inputs: tuple[int, ...], outputs: int | None) -> nn.Sequential:
        """`hidden1`, `relu1`, `hidden2`, ..., `head`."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        widths = (torch.Size(inputs).numel(), *self.widths)
        for i, (before, after) in enumerate(pairwise(widths), 1):
            layers[f"hidden{i}"] = nn.Linear(before, after)
            layers[f"{self.activation}{i}"] = nn.ReLU() if self.activation == "relu" else nn.Tanh()
        if outputs is not None:
            layers["head"] = nn.Linear(widths[-1], outputs)
        return nn.Sequential(layers)

    def features(self, theta: Theta, x: Tensor, *, each: bool = False) -> Tensor:
        """The last hidden layer's activations; the matrix product broadcasts over tasks by itself."""
        *_, h = self._activations(theta, x)
        return h

    def _activations(self, theta: Theta, x: Tensor) -> Iterator[Tensor]:
        """Flat inputs, then every hidden layer's activations, `[task, rows, units]`."""
        h = x.flatten(2) if x.ndim > 3 else x
        yield h
        for i in range(1, len(self.widths) + 1):
            h = linear(h, theta[f"hidden{i}.weight"], theta[f"hidden{i}.bias"])
            h = h.relu() if self.activation == "relu" else h.tanh()
            yield h

    def vjp(self, theta: Theta, x: Tensor) -> tuple[Tensor, Pull]:
        """Backpropagation written out: an outer gradient then has one level to differentiate, not two.

        With 5 inner steps on a 1-40-40-1 network the second-order meta-gradient takes 0.6 times as long.
        """
        activations = list(self._activations(theta, x))
        outputs = linear(activations[-1], theta["head.weight"], theta["head.bias"])
        layers = [*(f"hidden{i}" for i in range(1, len(self.widths) + 1)), "head"]

        def pull(slope: Tensor) -> Theta:
            found: Theta = {}
            for i in reversed(range(len(layers))):
                h = activations[i]
                found[f"{layers[i]}.weight"] = torch.bmm(slope.mT, h)
                found[f"{layers[i]}.bias"] = slope.sum(-2)
                if i > 0:
                    slope = torch.bmm(slope, theta[f"{layers[i]}.weight"]) * self._derivative(h)
            return found

        return outputs, pull

    def _derivative(self, h: Tensor) -> Tensor:
        """The activation's slope, in terms of its value."""
        return h > 0 if self.activation == "relu" else 1 - h * h


class ConvNet(Model):
    """Blocks of a 3x3 convolution, a norm, ReLU and 2x2 max-pooling: with four it is few-shot learning's Conv4."""

    channels: tuple[PositiveInt, ...] = Field(
        default=(32, 32, 32), min_length=1, description="channels of each block; every block halves the image"
    )
    norm: Literal["layer", "batch", "none"] = Field(
        default="layer",
        description="layer: over each image; batch: over the images of one call, as in MAML's code, so that a "
        "prediction depends on the other queries",
    )

    @classmethod
    def example(cls) -> Self:
        """Two small blocks."""
        return cls(channels=(4, 4))

    def check(self, spec: SupervisedSpec) -> None:
        """Accept images that are large enough.

        Raises:
            Incompatible: the inputs are not `(channels, height, width)`, or too small to be halved so often.
        """
        if len(spec.inputs) != 3:
            raise Incompatible(
                f"ConvNet needs images (channels, height, width), these inputs are {spec.inputs}: use Mlp"
            )
        if min(spec.inputs[1:]) >> len(self.channels) == 0:
            blocks = min(spec.inputs[1:]).bit_length() - 1
            raise Incompatible(
                f"ConvNet halves an image {len(self.channels)} times, but {spec.inputs[1]} x {spec.inputs[2]} pixels "
                f"allow {blocks}: give model.channels at most {blocks} entries"
            )

    def network(self, inputs: tuple[int, ...], outputs: int | None) -> nn.Sequential:
        """`conv1`, `norm1`, `relu1`, `pool1`, `conv2`, ..., `flatten`, `head`."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        depth, *sides = inputs
        for i, width in enumerate(self.channels, 1):
            layers[f"conv{i}"] = nn.Conv2d(depth, width, 3, padding=1)
            if self.norm != "none":
                layers[f"norm{i}"] = _norm(self.norm, width)
            layers[f"relu{i}"] = nn.ReLU()
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            depth, sides = width, [side // 2 for side in sides]
        layers["flatten"] = nn.Flatten()
        if outputs is not None:
            layers["head"] = nn.Linear(depth * sides[0] * sides[1], outputs)
        return nn.Sequential(layers)

    def body(self, theta: Theta, x: Tensor) -> Tensor:
        """Features `[rows, channels * height * width]` of images `[rows, channels, height, width]`."""
        for i in range(1, len(self.channels) + 1):
            x = nn.functional.conv2d(x, theta[f"conv{i}.weight"], theta[f"conv{i}.bias"], padding=1)
            if self.norm == "layer":
                x = nn.functional.group_norm(x, 1, theta[f"norm{i}.weight"], theta[f"norm{i}.bias"])
            elif self.norm == "batch":
                x = nn.functional.batch_norm(
                    x, None, None, theta[f"norm{i}.weight"], theta[f"norm{i}.bias"], training=True
                )
            x = nn.functional.max_pool2d(x.relu(), 2)
        return x.flatten(1)


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels) if kind == "layer" else nn.BatchNorm2d(channels, track_running_stats=False)
