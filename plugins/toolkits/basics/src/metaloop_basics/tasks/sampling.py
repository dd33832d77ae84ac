"""Random choices for many tasks at once."""

from __future__ import annotations

import torch
from metaloop.key import Key
from torch import Tensor

_WIDE = 1 << 62


def distinct(keys: Key, n: int | Tensor, k: int) -> Tensor:
    """`k` different numbers below `n`, in random order: `[key axes, k]` int64.

    `n` is one number, or one for each key. Floyd's algorithm, all keys at once: time and memory grow with `k`, not `n`.
    """
    draws = keys.fold("draw").randint(0, _WIDE, k)
    chosen = torch.empty_like(draws)
    for i in range(k):
        last = n - k + i
        candidate = draws[..., i] % (last + 1)
        taken = (chosen[..., :i] == candidate.unsqueeze(-1)).any(-1)
        chosen[..., i] = torch.where(taken, last, candidate)
    return chosen.gather(-1, keys.fold("order").permutation(k))  # late positions favour large numbers
