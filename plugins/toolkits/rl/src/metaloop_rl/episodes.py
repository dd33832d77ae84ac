"""How the last episodes went, kept as explicit state while others run on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaloop_rl.returns import running


class Episodes(NamedTuple):
    """Undiscounted returns and lengths of the last episodes that ended."""

    running_return: Tensor
    """`[n]`: of the episodes that go on."""
    running_length: Tensor
    """`[n]`."""
    returns: Tensor
    """`[window]`: a ring, in no particular order."""
    lengths: Tensor
    """`[window]`."""
    ended: Tensor
    """Scalar int64: episodes that ended so far."""

    @classmethod
    def of(cls, n: int, window: int, like: Tensor) -> Episodes:
        """Before the first step of `n` environments; the last `window` episodes are kept."""
        count = torch.zeros((), dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(n), like.new_zeros(n), like.new_zeros(window), like.new_zeros(window), count)

    def update(self, reward: Tensor, done: Tensor) -> Episodes:
        """Follow rewards `[time, n]` and ends `[time, n]`."""
        returns, running_return = running(reward, done, self.running_return)
        lengths, running_length = running(torch.ones_like(reward), done, self.running_length)
        over, window = done.flatten(), self.returns.shape[0]
        order = self.ended + over.cumsum(0)  # counts from 1
        ended = order[-1]
        kept = over & (order > ended - window)
        slots = torch.where(kept, (order - 1) % window, window)  # one past the ring for what is not kept

        def put(ring: Tensor, values: Tensor) -> Tensor:
            return torch.cat([ring, ring.new_zeros(1)]).scatter(0, slots, values.flatten())[:window]

        rings = put(self.returns, returns), put(self.lengths, lengths)
        return Episodes(running_return, running_length, *rings, ended)

    @property
    def mean_return(self) -> Tensor:
        """Scalar: mean over the last episodes; before the first one ended, over those that run."""
        return self._mean(self.returns, self.running_return)

    @property
    def mean_length(self) -> Tensor:
        """Scalar, in steps."""
        return self._mean(self.lengths, self.running_length)

    def _mean(self, ring: Tensor, now: Tensor) -> Tensor:
        count = self.ended.clamp(max=ring.shape[0])
        return torch.where(self.ended > 0, ring.sum() / count.clamp(min=1), now.mean())
