"""Second-order MAML as users of TorchOpt and higher write it: one task after the other, a module changed in place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from metaloop.outcome import Episode
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
Backward = Callable[[Episode], None]
"""Puts the gradient of the mean query loss over tasks `[task, ...]` into the module's parameters."""


def torchopt_backward(module: nn.Module, loss: Loss, inner_lr: float, steps: int) -> Backward:
    """TorchOpt's MetaSGD, as in its own MAML example."""
    import torchopt

    inner = torchopt.MetaSGD(module, lr=inner_lr)

    def backward(episode: Episode) -> None:
        start = torchopt.extract_state_dict(module, by="reference", detach_buffers=True)
        inner_start = torchopt.extract_state_dict(inner, by="reference")
        losses = []
        for support_x, support_y, query_x, query_y in zip(*episode, strict=True):
            for _ in range(steps):
                inner.step(loss(module(support_x), support_y))
            losses.append(loss(module(query_x), query_y))
            torchopt.recover_state_dict(module, start)
            torchopt.recover_state_dict(inner, inner_start)
        torch.autograd.backward(torch.stack(losses).mean())

    return backward


def higher_backward(module: nn.Module, loss: Loss, inner_lr: float, steps: int) -> Backward:
    """higher's `innerloop_ctx`, as in its own MAML example: each task's gradient is added up at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # higher's source has invalid escapes
        import higher

    inner = torch.optim.SGD(module.parameters(), lr=inner_lr)

    def backward(episode: Episode) -> None:
        tasks = len(episode.support_x)
        for support_x, support_y, query_x, query_y in zip(*episode, strict=True):
            with higher.innerloop_ctx(module, inner, copy_initial_weights=False) as (adapted, optimizer):
                for _ in range(steps):
                    optimizer.step(loss(adapted(support_x), support_y))
                torch.autograd.backward(loss(adapted(query_x), query_y) / tasks)

    return backward


PEERS: dict[str, Callable[[nn.Module, Loss, float, int], Backward]] = {
    "TorchOpt MetaSGD": torchopt_backward,
    "higher": higher_backward,
}


def gradients(module: nn.Module, backward: Backward, episode: Episode) -> dict[str, Tensor]:
    """The meta-gradient by parameter."""
    module.zero_grad()
    backward(episode)
    return {name: _grad(value).clone() for name, value in module.named_parameters()}


def _grad(value: Any) -> Tensor:
    assert value.grad is not None
    found: Tensor = value.grad
    return found
