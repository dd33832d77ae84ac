"""The grid of an analysis: every width under every setting, for several seeds, as a finite task family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from metaloop import Draw, Key, Spec, TaskFamily
from metaloop.component import Component
from pydantic import Field
from torch import Tensor


class Factors(Component):
    """What the paper varies beside the width. Which of them a model heeds, and in which unit, its learner says."""

    steps: float = Field(default=math.inf, gt=0, description="steps of full-batch gradient descent; inf: all the way")
    lr: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="learning rate, in the learner's unit")
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="factor on the first layer's weights")
    start: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="standard deviation of the output layer's first weights"
    )
    standardise: bool = Field(default=False, description="inputs of mean 0 and standard deviation 1")
    centre: bool = Field(default=False, description="features of mean 0, beside the mean target")


class Point(NamedTuple):
    """Rows of the grid, `[row]` each: a width, a seed and the factors."""

    width: Tensor
    """int64: p of random features, h of a network."""
    seed: Tensor
    """int64: rows of one seed share data, and where their widths agree, weights."""
    key: Tensor
    """int64: the data of the `Key` that the seed names."""
    steps: Tensor
    lr: Tensor
    scale: Tensor
    start: Tensor
    standardise: Tensor
    """bool."""
    centre: Tensor
    """bool."""

    @classmethod
    def of(cls, factors: Factors, width: int, keys: Key) -> Point:
        """The same width and factors for each of `keys` `[row]`."""
        data = keys.data

        def filled(value: float | bool | int) -> Tensor:
            dtype = {bool: torch.bool, int: torch.int64}.get(type(value), torch.float64)
            return torch.full(data.shape, value, dtype=dtype, device=data.device)

        rows = {name: filled(getattr(factors, name)) for name in Factors.model_fields}
        return cls(width=filled(width), seed=torch.zeros_like(data), key=data, **rows)


class GridSpec(Spec):
    """Rows of a grid of widths and factors (`Point`); what is fitted, and to which data, is the learner's."""

    of_features: bool = False
    """Whether a row has a start or is centred, as random features can be and networks can't."""


class Widths(TaskFamily[Point, dict[str, Tensor]]):
    """Every setting at every width for every seed."""

    widths: tuple[int, ...] = Field(min_length=1, description="model sizes")
    settings: tuple[Factors, ...] = Field(default=(Factors(),), min_length=1, description="factors, one set each")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1, description="names of data and weights")

    @classmethod
    def example(cls) -> Self:
        """Two widths, two budgets, two seeds."""
        settings = (Factors(steps=100.0, start=0.1), Factors(standardise=True, centre=True, lr=0.5))
        return cls(widths=(3, 6), settings=settings, seeds=(0, 1))

    @property
    def spec(self) -> GridSpec:
        """A grid."""
        return GridSpec(of_features=any(setting.start != 0 or setting.centre for setting in self.settings))

    @property
    def size(self) -> int:
        """Rows of the grid."""
        return len(self.settings) * len(self.widths) * len(self.seeds)

    def begin(self, key: Key) -> dict[str, Tensor]:
        """A key for each seed, under the experiment's own."""
        return {"keys": key.fold("seed").fold(torch.tensor(self.seeds, device=key.device)).data}

    def sample(self, state: dict[str, Tensor], n: int, key: Key) -> Draw[Point]:
        """All rows, or `n` different ones; the tag is their number."""
        device = key.device
        row = torch.arange(n, device=device) if n == self.size else key.permutation(self.size)[:n]
        rest, seed = row // len(self.seeds), row % len(self.seeds)
        setting, width = rest // len(self.widths), rest % len(self.widths)
        factors = {name: self._values(name, device)[setting] for name in Factors.model_fields}
        widths, seeds = (torch.tensor(values, device=device) for values in (self.widths, self.seeds))
        return Draw(Point(widths[width], seeds[seed], state["keys"][seed], **factors), row)

    def columns(self, tasks: Point) -> Mapping[str, Sequence[Any]]:
        """Width, seed and the factors, these with all their digits whatever the experiment's precision."""
        found = {"width": tasks.width.tolist(), "seed": tasks.seed.tolist()}
        for name in Factors.model_fields:
            rows: Tensor = getattr(tasks, name)
            exact = {torch.tensor(value, dtype=rows.dtype).item(): value for value in self._all(name)}
            found[name] = [exact[value] for value in rows.tolist()]
        return found

    def _all(self, name: str) -> list[float]:
        return [getattr(factors, name) for factors in self.settings]

    def _values(self, name: str, device: torch.device) -> Tensor:
        values = self._all(name)
        dtype = torch.bool if isinstance(values[0], bool) else torch.get_default_dtype()
        return torch.tensor(values, dtype=dtype, device=device)
