"""Two-layer networks of every width at once: units beyond a row's width are masked."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from metaloop import Clock, Episode, Key, Learner, Outcome, Spec, tree
from metaloop.errors import Incompatible, UserError
from metaloop.tasks import AnyTaskFamily
from pydantic import Field
from torch import Tensor
from torch.func import grad, vmap

from metaloop_double_descent.feature_descent import lifetime
from metaloop_double_descent.features import Inputs, accepted, problem, standardised
from metaloop_double_descent.grid import Factors, GridSpec, Point
from metaloop_double_descent.images import NoisyImages
from metaloop_double_descent.random_features import judged

Parameters = dict[str, Tensor]


class Training(NamedTuple):
    """Networks on the way, `[row, ...]` each."""

    parameters: Parameters
    """`first` `[d, h]`, `bias` `[h]`, `second` `[h, outputs]`, `out` `[outputs]`; h is the widest row's."""
    moments: tuple[Parameters, Parameters]
    """Running means of gradients and of their squares, as far as the optimizer has them."""
    mask: Tensor
    """`[row, h]`: 1 for a unit that is there, else 0."""
    lr: Tensor
    x: Tensor
    """Normalised inputs to learn from `[row, n, d]`."""
    y: Tensor
    inputs: Inputs
    key: Tensor
    """`[row]` int64: names the row's data and first weights."""


class TwoLayer(Learner[dict[str, Tensor], Any, Training]):
    """`f(x) = relu(norm(x W) + b) A + c`, all of it trained on half the squared error; one step is an epoch.

    A row's `lr` is the optimizer's learning rate, `scale` a factor on the first weights of both layers, `standardise`
    about inputs, `steps` a number of epochs. First weights are `W ~ N(0, 2 / d)`, `A ~ N(0, 1 / h)`; with
    `parametrisation="ntk"` both are standard normal and the layers are multiplied by those deviations instead, which
    trains as if each weight had a learning rate of its own.
    """

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"
    stackable: ClassVar[bool] = False

    steps: int = Field(default=1000, ge=0, description="epochs")
    optimizer: Literal["sgd", "momentum", "adam"] = Field(default="adam", description="momentum and betas are usual")
    batch: int | None = Field(default=None, ge=1, description="examples per update; None: all")
    norm: Literal["none", "layer", "batch"] = Field(default="none", description="normalisation before the rectifier")
    parametrisation: Literal["standard", "ntk"] = Field(default="standard", description="where deviations are kept")
    width: int = Field(default=32, ge=1, description="hidden units h, on episodes")
    factors: Factors = Field(default=Factors(lr=0.01), description="how to train, on episodes")
    data: AnyTaskFamily = Field(default=NoisyImages(), description="what a grid's rows are trained on")

    @classmethod
    def example(cls) -> Self:
        """Two epochs of small batches with layer normalisation."""
        data, factors = NoisyImages.example(), Factors(lr=0.05, standardise=True)
        return cls(steps=2, batch=3, optimizer="momentum", norm="layer", width=5, factors=factors, data=data)

    def check(self, spec: Spec) -> None:
        """Accept a grid without factors of random features, or episodes of real targets."""
        accepted(type(self).__name__, spec, self.data)
        if isinstance(spec, GridSpec) and spec.of_features:
            raise Incompatible(f"{type(self).__name__} has no start and no centre, which rows of this GridSpec have")

    def lifetime(self, tasks: Point | Episode) -> int | Tensor:
        """`steps`, or as many as a row's `steps` factor allows."""
        return lifetime(self.steps, tasks, self.factors)

    def begin(self, theta: dict[str, Tensor], tasks: Point | Episode, keys: Key) -> Training:
        """First weights, named by seed and width alone: rows that differ in how they are trained share them.

        Raises:
            UserError: a row has a factor that networks do not have.
        """
        points, data, which = found = problem(tasks, keys, self.data, self.width, self.factors)
        if bool((points.start != 0).any() | points.centre.any()):
            raise UserError("start and centre are factors of random features: a two-layer network has neither")
        dtype = torch.get_default_dtype()
        inputs = standardised(data.support_x[which], points.standardise)
        parameters, mask = self._first(points, data.support_x.shape[-1], data.support_y.shape[-1])
        moments = tuple(tree.map_tensors(torch.zeros_like, parameters if kept else {}) for kept in self._kept)
        return Training(
            parameters,
            (moments[0], moments[1]),
            mask,
            points.lr.to(dtype),
            inputs(data.support_x[which]).to(dtype),
            found.support_y.to(dtype),
            tree.map_tensors(lambda part: part.to(dtype), inputs),
            points.key,
        )

    @property
    def _kept(self) -> tuple[bool, bool]:
        return self.optimizer != "sgd", self.optimizer == "adam"

    def _first(self, points: Point, inputs: int, outputs: int) -> tuple[Parameters, Tensor]:
        rows, h, dtype = len(points.width), int(points.width.max()), torch.get_default_dtype()
        first = torch.zeros(rows, inputs, h, dtype=dtype, device=points.key.device)
        second, bias = first.new_zeros(rows, h, outputs), first.new_zeros(rows, h)
        for width in torch.unique(points.width).tolist():
            mine = (points.width == width).nonzero().squeeze(1)
            keys = Key(points.key[mine]).fold("network", width)
            first[mine, :, :width] = keys.fold("first").normal(inputs, width, dtype=torch.float64).to(dtype)
            second[mine, :width] = keys.fold("second").normal(width, outputs, dtype=torch.float64).to(dtype)
        gains = (1.0, torch.ones_like(points.scale)) if self.parametrisation == "ntk" else gain(inputs, points.width)
        scale = points.scale[:, None, None].to(dtype)
        mask = torch.arange(h, device=first.device) < points.width[:, None]
        parameters = {
            "first": first * scale * gains[0],
            "bias": bias,
            "second": second * scale * gains[1][:, None, None].to(dtype),
            "out": first.new_zeros(rows, outputs),
        }
        return parameters, mask.to(dtype)

    def step(
        self, theta: dict[str, Tensor], state: Training, tasks: Point | Episode, clock: Clock, keys: Key
    ) -> Training:
        """One epoch: every example once, in random order, `batch` at a time."""
        n = state.x.shape[1]
        if self.batch is None or self.batch >= n:
            return self._update(state, state.x, state.y, clock.step + 1)
        order = keys.permutation(n)[..., None]
        x, y = (part.gather(1, order.expand(-1, -1, part.shape[2])) for part in (state.x, state.y))
        batches = -(-n // self.batch)
        for i, (some_x, some_y) in enumerate(
            zip(torch.split(x, self.batch, 1), torch.split(y, self.batch, 1), strict=True)
        ):
            state = self._update(state, some_x, some_y, clock.step * batches + i + 1)
        return state

    def _update(self, state: Training, x: Tensor, y: Tensor, time: Tensor) -> Training:
        slopes = vmap(grad(self._loss))(state.parameters, state.mask, x, y)
        first, second = state.moments
        if self.optimizer == "sgd":
            moves = slopes
        elif self.optimizer == "momentum":
            moves = first = {name: 0.9 * first[name] + slope for name, slope in slopes.items()}
        else:
            first = {name: 0.9 * first[name] + 0.1 * slope for name, slope in slopes.items()}
            second = {name: 0.999 * second[name] + 0.001 * slope.square() for name, slope in slopes.items()}
            moves = {name: _adam(first[name], second[name], time) for name in slopes}
        parameters = {
            name: torch.addcmul(value, _rows(state.lr, value), moves[name], value=-1.0)
            for name, value in state.parameters.items()
        }
        return state._replace(parameters=parameters, moments=(first, second))

    def _loss(self, parameters: Parameters, mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (self.network(parameters, mask, x, x) - y).square().sum(-1).mean() / 2

    def network(self, parameters: Parameters, mask: Tensor, x: Tensor, seen: Tensor) -> Tensor:
        """One row's outputs `[m, outputs]` at inputs `[m, d]`; batch normalisation goes by inputs `seen` `[n, d]`."""
        gains = gain(x.shape[-1], mask.sum()) if self.parametrisation == "ntk" else (1.0, torch.ones_like(mask.sum()))
        hidden = gains[0] * (x @ parameters["first"])
        if self.norm == "layer":
            mean = (hidden * mask).sum(-1, keepdim=True) / mask.sum()
            spread = ((hidden - mean).square() * mask).sum(-1, keepdim=True) / mask.sum()
            hidden = (hidden - mean) * (spread + 1e-5).rsqrt()
        elif self.norm == "batch":
            there = gains[0] * (seen @ parameters["first"])
            mean = there.mean(0)
            hidden = (hidden - mean) * ((there - mean).square().mean(0) + 1e-5).rsqrt()
        units = torch.relu(hidden + parameters["bias"]) * mask
        return gains[1] * (units @ parameters["second"]) + parameters["out"]

    def evaluate(self, theta: dict[str, Tensor], state: Training, tasks: Point | Episode, keys: Key) -> Outcome:
        """Squared error, summed over outputs, on new examples; on those learned from as `train_loss`."""
        found = problem(tasks, Key(state.key), self.data, self.width, self.factors)
        query = self._at(state, found.data.query_x[found.which])
        support = vmap(self.network)(state.parameters, state.mask, state.x, state.x)
        return judged(found, support.double(), query.double(), {})

    def predict(self, theta: dict[str, Tensor], state: Training, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, m, outputs]` at inputs `[task, m, *inputs]`."""
        return self._at(state, inputs.flatten(2))

    def _at(self, state: Training, inputs: Tensor) -> Tensor:
        x = state.inputs(inputs.to(state.x.dtype))
        outputs: Tensor = vmap(self.network)(state.parameters, state.mask, x, state.x)
        return outputs


def gain(inputs: int, width: Tensor) -> tuple[float, Tensor]:
    """Deviations of the first weights of the two layers at scale 1: `sqrt(2 / d)` and `sqrt(1 / h)`."""
    return (2 / inputs) ** 0.5, width.to(torch.get_default_dtype()).rsqrt()


def _adam(first: Tensor, second: Tensor, time: Tensor) -> Tensor:
    now = _rows(time.to(first.dtype), first)
    return first / (1 - 0.9**now) / ((second / (1 - 0.999**now)).sqrt() + 1e-8)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1 for _ in like.shape[1:]))
