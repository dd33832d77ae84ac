"""A replay buffer as explicit state: a ring of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from metaloop import Key, tree
from torch import Tensor


class Replay(NamedTuple):
    """The last `capacity` rows that were added."""

    rows: Any
    """A tree of tensors `[capacity, ...]`."""
    added: Tensor
    """Scalar int64: rows added so far, those overwritten included."""

    @classmethod
    def of(cls, capacity: int, example: Any) -> Replay:
        """An empty buffer for rows like `example` (a tree of tensors, one row)."""
        rows = tree.map_tensors(lambda leaf: leaf.new_zeros(capacity, *leaf.shape), example)
        return cls(rows, torch.zeros((), dtype=torch.int64, device=tree.leaves(example)[0].device))

    @property
    def capacity(self) -> int:
        """How many rows are kept."""
        size: int = tree.leaves(self.rows)[0].shape[0]
        return size

    @property
    def size(self) -> Tensor:
        """Scalar int64: rows that can be sampled."""
        return self.added.clamp(max=self.capacity)

    def add(self, new: Any) -> Replay:
        """The buffer with rows `[n, ...]`, at most its capacity, in place of the oldest ones.

        Raises:
            ValueError: there are more rows than the buffer holds.
        """
        at = self._next(new)
        rows = tree.tree_map(lambda leaf, values: leaf.index_copy(0, at, values.to(leaf.dtype)), self.rows, new)
        return Replay(rows, self.added + len(at))

    def add_(self, new: Any) -> Replay:
        """As `add`, but this buffer is consumed: written into, not copied. For large ones, outside `vmap`.

        Raises:
            ValueError: there are more rows than the buffer holds.
        """
        at = self._next(new)
        rows = tree.tree_map(lambda leaf, values: leaf.index_copy_(0, at, values.to(leaf.dtype)), self.rows, new)
        return Replay(rows, self.added + len(at))

    def _next(self, new: Any) -> Tensor:
        """Where the next rows go, `[n]` int64."""
        n = tree.length(new)
        if n > self.capacity:
            raise ValueError(f"a buffer of {self.capacity} rows can't take {n} at once")
        return (self.added + torch.arange(n, device=self.added.device)) % self.capacity

    def sample(self, key: Key, n: int) -> Any:
        """Rows `[n, ...]` drawn uniformly with replacement; a buffer that holds none gives zeros."""
        return tree.index(self.rows, key.randint(0, 1 << 62, n) % self.size.clamp(min=1))
