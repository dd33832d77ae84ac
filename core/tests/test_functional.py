"""Modules as functions of theta."""

from __future__ import annotations

import pytest
import torch
from metaloop import functional
from metaloop.key import Key
from metaloop.precision import default_dtype
from torch import Tensor, nn


class Tied(nn.Module):
    """A shared parameter, a buffer that is not in the state_dict, and one that is."""

    offset: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("offset", torch.arange(5.0), persistent=False)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.scale * self.out(self.embed(x)) + self.offset
        return result


X = torch.tensor([1, 4])


def test_a_call_is_the_filled_module() -> None:
    theta = functional.parameters(Tied, Key.of(0))
    assert list(theta) == ["embed.weight"]
    skeleton = functional.skeleton(Tied)
    module = functional.filled(skeleton, theta)
    assert torch.equal(module(X), functional.call(skeleton, theta, X))
    assert isinstance(module, Tied)
    assert module.out.weight is module.embed.weight
    assert torch.equal(module.embed.weight, theta["embed.weight"])
    module(X).sum().backward()
    assert module.embed.weight.grad is not None
    with torch.no_grad():
        module.embed.weight.zero_()
    assert float(theta["embed.weight"].abs().sum()) > 0  # a copy


def test_stray_and_missing_names_are_refused() -> None:
    theta, skeleton = functional.parameters(Tied, Key.of(0)), functional.skeleton(Tied)
    for wrong in ({**theta, "stray": X}, {}):
        with pytest.raises(RuntimeError):
            functional.call(skeleton, wrong, X)
        with pytest.raises(RuntimeError, match=r"the module has the parameters \['embed.weight'\]"):
            functional.filled(skeleton, wrong)


def test_buffers_follow_theta_in_precision_and_to_its_device() -> None:
    skeleton = functional.skeleton(Tied)
    with default_dtype(torch.float64):
        theta = functional.parameters(Tied, Key.of(0))
        assert functional.call(skeleton, theta, X).dtype == torch.float64
        assert functional.filled(skeleton, theta)(X).dtype == torch.float64
    elsewhere = {name: value.to("meta") for name, value in theta.items()}
    assert functional.call(skeleton, elsewhere, X.to("meta")).is_meta


def test_initial_values_are_the_keys_and_touch_no_global_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded the accelerators"))
    state = torch.get_rng_state()
    one, other = (functional.parameters(Tied, Key.of(seed).fold("theta")) for seed in (0, 0))
    functional.skeleton(Tied)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one["embed.weight"], other["embed.weight"])
    assert not torch.equal(one["embed.weight"], functional.parameters(Tied, Key.of(1))["embed.weight"])
    assert not any(value.requires_grad for value in one.values())
