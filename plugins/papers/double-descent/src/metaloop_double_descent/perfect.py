"""The perfect optimiser: two-layer networks trained by scipy's L-BFGS-B in float64, one after the other."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from metaloop import Episode, Key
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metaloop_double_descent.grid import Factors, Point
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.network import Parameters, Training, TwoLayer

Array = NDArray[np.float64]


class PerfectNetwork(TwoLayer):
    """`TwoLayer` at the end of L-BFGS-B on all examples; `lr` and `steps` of a row mean nothing to it."""

    steps: int = Field(default=0, ge=0, le=0, description="none: scipy does all of them")
    iterations: int = Field(default=1000, ge=1, description="L-BFGS iterations at most")

    @classmethod
    def example(cls) -> Self:
        """Few iterations."""
        return cls(iterations=3, width=3, factors=Factors(standardise=True), data=NoisyImages.example())

    def begin(self, theta: dict[str, Tensor], tasks: Point | Episode, keys: Key) -> Training:
        """The minimum that is reached from `TwoLayer`'s first weights."""
        state = super().begin(theta, tasks, keys)
        return state._replace(parameters=self._minimised(state))

    def _minimised(self, state: Training) -> Parameters:
        found = {name: value.clone() for name, value in state.parameters.items()}
        for row, mask in enumerate(state.mask):
            units = mask.bool().nonzero().squeeze(1)
            own = {name: _units(name, value[row], units) for name, value in found.items()}
            best = self._minimum(own, state.x[row].double(), state.y[row].double())
            for name, value in best.items():
                _units(name, found[name][row], units, value)
        return found

    def _minimum(self, start: Parameters, x: Tensor, y: Tensor) -> Parameters:
        from scipy.optimize import minimize

        shapes = {name: value.shape for name, value in start.items()}
        mask = torch.ones(shapes["bias"], dtype=torch.float64, device=x.device)

        def unpacked(vector: Tensor) -> Parameters:
            values = torch.split(vector, [shape.numel() for shape in shapes.values()])
            return {name: value.view(shape) for (name, shape), value in zip(shapes.items(), values, strict=True)}

        def slope(flat: Array) -> tuple[float, Array]:
            with torch.enable_grad():
                vector = torch.tensor(flat, device=x.device, requires_grad=True)
                loss = self._loss(unpacked(vector), mask, x, y)
                (gradient,) = torch.autograd.grad(loss, vector)
            return float(loss.detach()), gradient.cpu().numpy()

        flat = torch.cat([value.double().flatten() for value in start.values()]).cpu().numpy()
        options: dict[str, Any] = {"maxiter": self.iterations, "maxfun": 2 * self.iterations, "ftol": 0, "gtol": 1e-9}
        best = minimize(slope, flat, jac=True, method="L-BFGS-B", options=options).x
        return unpacked(torch.as_tensor(best, device=x.device))


def _units(name: str, value: Tensor, units: Tensor, new: Tensor | None = None) -> Tensor:
    """The part of a row's parameter that belongs to its units; set to `new` in place where that is given."""
    axis = {"first": 1, "bias": 0, "second": 0}.get(name)
    if new is not None:
        value.copy_(new) if axis is None else value.index_copy_(axis, units, new.to(value.dtype))
    return value if axis is None else value.index_select(axis, units)
