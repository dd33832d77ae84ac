"""What agents under a learned rule do between two updates, and the randomness of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from metaloop import Key
from torch import Tensor

from metaloop_rl.learners.lpg_agent import View


class Segment(NamedTuple):
    """What happened, `[task, time, worker]`, and what was seen after it."""

    seen: View
    """`[task, (time + 1) * worker]`, time by time."""
    after: View
    """`[task, time * worker]`: what each step led to, before any reset."""
    action: Tensor
    reward: Tensor
    terminated: Tensor
    done: Tensor


def chances(lives: Key, steps: range, actions: int) -> Iterator[tuple[Tensor, Key]]:
    """What is random in each of some steps: noise on logits whose largest is the action (Gumbel-max), and a key.

    All of it at once, for keys `[task, worker]`: step by step, hashing takes as long as the environment.
    """
    labels = torch.arange(steps.start, steps.stop, device=lives.device)[:, None, None]
    own = Key(lives.fold(labels).data)  # [step, task, worker]
    gumbel = -(-own.fold("policy").uniform(actions).log()).log()
    keys = own.fold("environment").data
    return ((noise, Key(key)) for noise, key in zip(gumbel.unbind(0), keys.unbind(0), strict=True))


def readable(mask: Tensor) -> bool:
    """Whether the values of a tensor can be looked at: not under `vmap`, nor while compiling."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(mask)
