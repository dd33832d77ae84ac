"""Regression tasks that are drawn from a law: lines and sinusoids."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
from metaloop.errors import UserError
from metaloop.key import Key
from metaloop.outcome import Draw, Episode
from metaloop.specs import SupervisedSpec
from metaloop.tasks import TaskFamily
from pydantic import Field, model_validator
from torch import Tensor

Law = Literal["uniform", "normal", "exponential", "laplace"]


class Regression(TaskFamily[Episode, dict[str, Any]]):
    """Episodes of real targets: `shots` examples to learn from, `queries` to be judged on, and label noise."""

    shots: int = Field(default=10, ge=1, description="support examples per task")
    queries: int = Field(default=10, ge=1, description="query examples per task; their labels have no noise")
    noise: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="standard deviation of label noise; 0: none"
    )
    noisy: int | None = Field(default=None, ge=0, description="support examples with noise; None: all of them")
    replace: bool = Field(default=False, description="the noise takes the label's place instead of being added to it")

    @model_validator(mode="after")
    def _noisy_among_shots(self) -> Self:
        if self.noisy is not None and self.noisy > self.shots:
            raise UserError(f"noisy: asks for noise on {self.noisy} of {self.shots} support examples (shots)")
        return self

    def episode(self, x: Tensor, y: Tensor, keys: Key) -> Draw[Episode]:
        """Support and query set from inputs `[task, shots + queries, d]` and targets `[task, ..., outputs]`."""
        n = self.shots
        return Draw(Episode(x[:, :n], self._with_noise(y[:, :n], keys), x[:, n:], y[:, n:]))

    def _with_noise(self, y: Tensor, keys: Key) -> Tensor:
        """Labels `[task, shot, outputs]` with noise on `noisy` random ones of each task."""
        if self.noise == 0:
            return y
        noise = self.noise * keys.fold("noise").normal(*y.shape[1:])
        if self.noisy is None:
            return noise if self.replace else y + noise
        hit = (keys.fold("noisy").permutation(self.shots) < self.noisy).unsqueeze(-1)
        return torch.where(hit, noise if self.replace else y + noise, y)


class LinearRegression(Regression):
    """`y = W x` with `W ~ N(0, weight_scale^2)` (von Oswald et al. 2023, arXiv:2212.07677, sections 2 and 3).

    Inputs are `input_scale` times a draw from `law`: uniform on (-1/2, 1/2), standard normal, exponential of mean 1, or
    Laplace of scale 1. With `frobenius` a task's inputs are first divided by the Frobenius norm of its support inputs.
    """

    inputs: int = Field(default=10, ge=1, description="width d of an input")
    outputs: int = Field(default=1, ge=1, description="width of a target")
    law: Law = Field(default="uniform", description="law of each input's entries")
    input_scale: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="factor on inputs; of uniform ones it is the whole range"
    )
    frobenius: bool = Field(default=False, description="inputs divided by the Frobenius norm of the support inputs")
    weight_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="standard deviation of W's entries")

    @classmethod
    def example(cls) -> Self:
        """Two inputs, four shots, some noise."""
        return cls(inputs=2, shots=4, queries=3, noise=0.1, noisy=2)

    @property
    def spec(self) -> SupervisedSpec:
        """Real targets."""
        return SupervisedSpec(inputs=(self.inputs,), outputs=self.outputs, shots=self.shots, queries=self.queries)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Fresh weights and inputs."""
        keys = key.split(n)
        weight = self.weight_scale * keys.fold("weight").normal(self.inputs, self.outputs)
        x = _draw(self.law, keys.fold("inputs"), self.shots + self.queries, self.inputs)
        if self.frobenius:
            x = x / torch.linalg.matrix_norm(x[:, : self.shots])[:, None, None]
        x = self.input_scale * x
        with torch.autocast(key.device.type, enabled=False):  # data are as exact in half-precision training
            y = x @ weight
        return self.episode(x, y, keys)


class Sinusoid(Regression):
    """`y = A sin(x + phi)` (Finn et al. 2017, arXiv:1703.03400, section 5.1)."""

    amplitude: tuple[float, float] = Field(default=(0.1, 5.0), description="range of A, uniform")
    phase: tuple[float, float] = Field(default=(0.0, math.pi), description="range of phi in radians, uniform")
    x_range: tuple[float, float] = Field(default=(-5.0, 5.0), description="range of inputs, uniform")
    correlated: bool = Field(
        default=False,
        description="A and phi from one draw, so that tasks are a line: what the code of arXiv:2212.07677 does",
    )

    @classmethod
    def example(cls) -> Self:
        """Four shots."""
        return cls(shots=4, queries=3, amplitude=(0.5, 1.0))

    @model_validator(mode="after")
    def _ranges_in_order(self) -> Self:
        for name in ("amplitude", "phase", "x_range"):
            low, high = getattr(self, name)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise UserError(f"{name}: the range ({low}, {high}) must be two numbers, the smaller one first")
        return self

    @property
    def spec(self) -> SupervisedSpec:
        """One input, one real target."""
        return SupervisedSpec(inputs=(1,), outputs=1, shots=self.shots, queries=self.queries)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Fresh amplitudes, phases and inputs."""
        keys = key.split(n)
        amplitude = _between(self.amplitude, keys.fold("amplitude").uniform(1, 1))
        phase = _between(self.phase, keys.fold("amplitude" if self.correlated else "phase").uniform(1, 1))
        x = _between(self.x_range, keys.fold("inputs").uniform(self.shots + self.queries, 1))
        return self.episode(x, amplitude * torch.sin(x + phase), keys)


def _between(bounds: tuple[float, float], unit: Tensor) -> Tensor:
    low, high = bounds
    return low + (high - low) * unit


def _draw(law: Law, keys: Key, *shape: int) -> Tensor:
    """Draws of unit scale, `[task, *shape]`."""
    if law == "normal":
        return keys.normal(*shape)
    unit = keys.uniform(*shape)
    if law == "uniform":
        return unit - 0.5
    if law == "exponential":
        return -torch.log1p(-unit)
    signed = (2 * unit - 1).clamp(min=-1 + torch.finfo(unit.dtype).eps)
    return -signed.sign() * torch.log1p(-signed.abs())
