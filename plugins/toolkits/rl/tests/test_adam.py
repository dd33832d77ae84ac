"""Adam beside torch's."""

from __future__ import annotations

import torch
from metaloop import Key
from metaloop_rl.adam import Adam, clipped
from torch.func import vmap


def test_adam_and_clipping_are_torchs() -> None:
    theta = {"a": Key.of(0).normal(3, 2), "b": Key.of(1).normal(4)}
    theirs = {name: value.clone().requires_grad_() for name, value in theta.items()}
    peer, state = torch.optim.Adam(theirs.values(), lr=0.01, eps=1e-5), Adam.of(theta)
    for i in range(5):
        slope = {name: Key.of(i + 2).fold(name).normal(*value.shape) for name, value in theta.items()}
        for name, value in theirs.items():
            value.grad = slope[name].clone()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        peer.step()
        theta, state = state.descend(theta, clipped(slope, 0.5), 0.01, eps=1e-5)
    for name, value in theirs.items():
        torch.testing.assert_close(theta[name], value.detach())


def test_a_small_gradient_is_left_alone() -> None:
    slope = {"a": torch.tensor([0.3, 0.4])}
    torch.testing.assert_close(clipped(slope, 1.0), slope)


def test_steps_of_a_batch_of_tasks() -> None:
    theta, slope = {"a": torch.zeros(2, 3)}, {"a": torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, 2.0]])}
    after, state = vmap(lambda own, g: Adam.of(own).descend(own, g, 0.1))(theta, slope)
    torch.testing.assert_close(after["a"], -0.1 * slope["a"].sign())
    assert state.step.tolist() == [1, 1]
