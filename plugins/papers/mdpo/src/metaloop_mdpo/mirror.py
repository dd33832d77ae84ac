"""The mirror-descent step in the space of policies: its objective, step size and regularisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from metaloop_rl.models import Theta
from torch import Tensor
from torch.func import grad

Loss = Callable[[Theta], tuple[Tensor, Any]]
"""What is descended, and what else is to be known of it."""


def slope_under_vmap(loss: Loss, theta: Theta) -> tuple[Theta, Any]:
    """The gradient and the rest, for tensor environments: `metaloop.engine.slope` is quicker, but not under `vmap`."""
    found: tuple[Theta, Any] = grad(loss, has_aux=True)(theta)
    return found


def psi(log_ratio: Tensor, advantage: Tensor, kl: Tensor, t: Tensor | float) -> Tensor:
    """Psi: E[pi / pi_k A] - KL(pi || pi_k) / t, to be maximised by some steps of SGD.

    Args:
        log_ratio: log pi(a|s) - log pi_k(a|s), `[rows]`.
        advantage: A(s, a) under pi_k, `[rows]`.
        kl: KL(pi(.|s) || pi_k(.|s)), `[rows]`.
        t: step size t_k.
    """
    return (log_ratio.exp() * advantage).mean() - kl.mean() / t


def annealed(k: Tensor, iterations: Tensor) -> Tensor:
    """t_k = 1 - (k - 1) / K for k = 0, 1, ..., K - 1 as in the authors' code, never below 1 / K."""
    return torch.maximum(1 - (k - 1) / iterations, 1 / iterations)


def standardised(advantage: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the batch; equal ones give zeros."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def log_q(log_probs: Tensor, q: float) -> Tensor:
    """The sum over action axes of log_{2 - q} p_i, `[rows]`, for log p_i `[rows, actions]`; q = 1 is log p.

    It sums over axes as the authors' code does: for q other than 1 this is not log_{2 - q} of the joint density.
    """
    if q == 1:
        return log_probs.sum(-1)
    p = log_probs.exp().clamp(min=1e-6)  # their floor
    return ((p ** (q - 1) - 1) / (q - 1)).sum(-1)
