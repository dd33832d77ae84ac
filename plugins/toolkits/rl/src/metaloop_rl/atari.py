"""The convolutional networks of deep Q-learning, for stacked frames."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple, Self

import torch
from metaloop import Incompatible
from metaloop.specs import SupervisedSpec
from metaloop_basics.models import Model, Theta
from pydantic import Field
from torch import Tensor, nn


class Layer(NamedTuple):
    """One convolution."""

    channels: int
    kernel: int
    stride: int


_LAYERS = {
    "small": ((Layer(16, 8, 4), Layer(32, 4, 2)), 256),
    "large": ((Layer(32, 8, 4), Layer(64, 4, 2), Layer(64, 3, 1)), 512),
}


class AtariNet(Model):
    """Convolutions, one hidden layer and a linear head, ReLU between them (Mnih et al. 2013, 2015).

    Inputs are frames `(stack, height, width)` with values from 0 to 255. Edges are padded as TensorFlow's SAME does,
    which Such et al. (2017) use: an output is its input's side over the stride, rounded up, and an odd row of padding
    goes to the end. The large network has 4 million weights on 4 frames of 84 x 84.
    """

    size: Literal["small", "large"] = Field(
        default="small", description="small: 16 and 32 channels, 256 units; large: 32, 64 and 64 channels, 512 units"
    )

    @classmethod
    def example(cls) -> Self:
        """The small one."""
        return cls()

    def check(self, spec: SupervisedSpec) -> None:
        """Accept stacked frames.

        Raises:
            Incompatible: the inputs have other than three axes.
        """
        if len(spec.inputs) != 3:
            raise Incompatible(
                f"AtariNet needs stacked frames (stack, height, width), these observations are {spec.inputs}: use the "
                "wrappers AtariPreprocessing and FrameStackObservation, or another model"
            )

    def network(self, inputs: tuple[int, ...], outputs: int | None) -> nn.Sequential:
        """`pad1`, `conv1`, `relu1`, ..., `flatten`, `hidden`, `relu`, `head`."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        convolutions, units = _LAYERS[self.size]
        depth, *sides = inputs
        for i, layer in enumerate(convolutions, 1):
            layers[f"pad{i}"] = nn.ZeroPad2d(_padding(sides, layer))
            layers[f"conv{i}"] = nn.Conv2d(depth, layer.channels, layer.kernel, layer.stride)
            layers[f"relu{i}"] = nn.ReLU()
            depth, sides = layer.channels, [-(-side // layer.stride) for side in sides]
        layers["flatten"] = nn.Flatten()
        layers["hidden"] = nn.Linear(depth * sides[0] * sides[1], units)
        layers["relu"] = nn.ReLU()
        if outputs is not None:
            layers["head"] = nn.Linear(units, outputs)
        return nn.Sequential(layers)

    def body(self, theta: Theta, x: Tensor) -> Tensor:
        """The hidden layer's activations `[rows, units]` for frames `[rows, stack, height, width]`."""
        x = x / 255.0
        for i, layer in enumerate(_LAYERS[self.size][0], 1):
            x = nn.functional.pad(x, _padding(list(x.shape[-2:]), layer))
            x = nn.functional.conv2d(x, theta[f"conv{i}.weight"], theta[f"conv{i}.bias"], layer.stride).relu()
        return torch.addmm(theta["hidden.bias"], x.flatten(1), theta["hidden.weight"].mT).relu()


def _padding(sides: list[int], layer: Layer) -> tuple[int, int, int, int]:
    """Left, right, top, bottom."""
    total = [max((-(-side // layer.stride) - 1) * layer.stride + layer.kernel - side, 0) for side in sides]
    height, width = total
    return width // 2, width - width // 2, height // 2, height - height // 2
