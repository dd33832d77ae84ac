"""The network of a Learned Policy Gradient (Oh et al. 2020): from an agent's experience to how it is to change."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from metaloop import Component, Key
from metaloop.outcome import Clock
from metaloop_basics.models import linear
from pydantic import Field
from torch import Tensor, nn

from metaloop_rl.models import Theta

TimeInputs = Literal["off", "relative", "raw"]
"""What a rule knows of time: nothing; n/N and log N; or n and N as they are."""


class Experience(NamedTuple):
    """What the network reads of a segment, `[task, time, worker]` each, cut from any graph."""

    reward: Tensor
    done: Tensor
    """bool: an episode ended here."""
    probability: Tensor
    """pi(a_t | s_t)."""
    y: Tensor
    """`[task, time + 1, worker, m]`: the agent's prediction vectors, that of what it sees after the segment too."""


class Guidance(NamedTuple):
    """What the network says of a segment, `[task, time, worker]`."""

    pi_hat: Tensor
    """How the action's log-probability is to change: a descended loss is log pi * pi_hat."""
    log_y_hat: Tensor
    """`[task, time, worker, m]`: log of the vector that y is pulled to."""


class LpgNetwork(Component):
    """U_eta of the paper: an embedding of prediction vectors, a GRU that runs backwards in time, two linear heads.

    A step's input is [r, d, pi(a|s), e(y_t), (1 - d) e(y_{t+1})]; with `time_inputs` also n/N and log N, where n is the
    number of updates done and N that of the agent's life (Jackson et al. 2024, eq. 9), or both as they are (`raw`,
    which is what the authors' released code feeds). The GRU's cell is written out: cuDNN's has no second derivative.
    """

    hidden: int = Field(default=256, ge=1, description="units of the GRU")
    embedding: int = Field(default=16, ge=1, description="units of the embedding's hidden layer")
    predictions: int = Field(default=8, ge=2, description="m, the length of prediction vectors")
    time_inputs: TimeInputs = Field(default="off", description="what is known of the agent's life: n/N and log N")

    @classmethod
    def example(cls) -> Self:
        """A small one that knows the time."""
        return cls(hidden=4, embedding=3, predictions=3, time_inputs="relative")

    @property
    def inputs(self) -> int:
        """Numbers that the GRU reads at each step."""
        return 5 if self.time_inputs == "off" else 7

    def init(self, key: Key) -> Theta:
        """First parameters: weights from N(0, 1 / fan-in), the GRU's recurrent ones orthogonal, biases 0."""
        h = self.hidden
        shapes = {
            "embed.hidden": (self.embedding, self.predictions),
            "embed.out": (1, self.embedding),
            "gru.input": (3 * h, self.inputs),
            "pi": (1, h),
            "y": (self.predictions, h),
        }
        dtype = torch.get_default_dtype()
        theta: Theta = {}
        for name, shape in shapes.items():
            theta[f"{name}.weight"] = shape[1] ** -0.5 * key.fold(name).normal(*shape, dtype=dtype)
            theta[f"{name}.bias"] = torch.zeros(shape[0], dtype=dtype, device=key.device)
        generator = key.fold("orthogonal").generator("cpu")
        gates = [nn.init.orthogonal_(torch.empty(h, h, dtype=dtype), generator=generator) for _ in range(3)]
        theta["gru.recurrent.weight"] = torch.cat(gates).to(key.device)
        theta["gru.recurrent.bias"] = torch.zeros(h, dtype=dtype, device=key.device)
        return theta

    def __call__(self, theta: Theta, seen: Experience, clock: Clock) -> Guidance:
        """How agents are to change.

        Args:
            theta: one set of parameters for all tasks, or leaves `[task, ...]`.
            seen: a segment of each task.
            clock: updates done, and of the whole life, `[task]`.
        """
        task, time, worker = seen.reward.shape
        e = _layer(theta, "embed.out", _layer(theta, "embed.hidden", seen.y.reshape(task, -1, self.predictions)).relu())
        e = e.reshape(task, time + 1, worker)
        going_on = 1.0 - seen.done.to(seen.reward.dtype)
        parts = [seen.reward, 1.0 - going_on, seen.probability, e[:, :-1], going_on * e[:, 1:]]
        parts += [value.to(e.dtype)[:, None, None].expand_as(seen.reward) for value in self._time(clock)]
        x = torch.stack(parts, dim=-1).reshape(task, time * worker, self.inputs)
        gates = _layer(theta, "gru.input", x).reshape(task, time, worker, -1)
        h = self._backwards(theta, gates, going_on).relu().reshape(task, time * worker, self.hidden)
        pi_hat, y_hat = _layer(theta, "pi", h), _layer(theta, "y", h)
        return Guidance(
            pi_hat.reshape(task, time, worker),
            y_hat.log_softmax(-1).reshape(task, time, worker, self.predictions),
        )

    def _time(self, clock: Clock) -> tuple[Tensor, ...]:
        if self.time_inputs == "off":
            return ()
        if self.time_inputs == "raw":
            return clock.step, clock.lifetime
        return clock.fraction, clock.lifetime.to(torch.get_default_dtype()).log()

    def _backwards(self, theta: Theta, gates: Tensor, going_on: Tensor) -> Tensor:
        """States of the GRU `[task, time, worker, h]` from the segment's end; nothing comes back over an episode's end.

        Args:
            theta: as it is called with.
            gates: what inputs add to reset, update and new, `[task, time, worker, 3 h]`.
            going_on: 0 where an episode ended, `[task, time, worker]`.
        """
        h = torch.zeros_like(gates[:, 0, :, : self.hidden])
        weight, bias = theta["gru.recurrent.weight"].mT, theta["gru.recurrent.bias"].unsqueeze(-2)
        found = []
        for now, on in zip(reversed(gates.unbind(1)), reversed(going_on.unbind(1)), strict=True):
            h = h * on[..., None]
            back = torch.bmm(h, weight) if weight.ndim == 3 else h @ weight
            reset_update = (now[..., : 2 * self.hidden] + back[..., : 2 * self.hidden]).sigmoid()
            reset, update = reset_update.chunk(2, dim=-1)
            new = (now[..., 2 * self.hidden :] + reset * (back[..., 2 * self.hidden :] + bias)).tanh()
            h = new + update * (h - new)
            found.append(h)
        return torch.stack(found[::-1], dim=1)


def _layer(theta: Theta, name: str, x: Tensor) -> Tensor:
    """A linear layer of inputs `[task, rows, in]`."""
    return linear(x, theta[f"{name}.weight"], theta[f"{name}.bias"])
