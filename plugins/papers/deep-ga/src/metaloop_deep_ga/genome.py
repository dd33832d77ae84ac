"""Individuals as the random seeds that made them (Such et al. 2017, section 3.1).

The weights of an individual of generation n are

    theta_n = phi(tau_0) + sigma_1 * eps(tau_1) + ... + sigma_n * eps(tau_n)

where phi is the learner's initialisation and eps(tau) standard normal noise, both functions of a seed. The list of
seeds is the individual: its size depends on the number of generations and not on that of the weights. Sums are formed
in this order and in theta's own precision, so the weights come back to the last bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from metaloop import Key, UserError
from torch import Tensor

Theta = dict[str, Tensor]

SEEDS = 2**32
"""Seeds are numbers from 0 below this."""

_HEADER = struct.Struct("<4sI")
_MAGIC = b"DGA1"


class Genome(NamedTuple):
    """An individual."""

    seeds: Tensor
    """`[1 + mutations]` int64: that of the first weights, then one for each mutation."""
    sigmas: Tensor
    """`[mutations]` float64: standard deviations of the mutations."""

    @classmethod
    def first(cls, seed: int) -> Genome:
        """An individual without mutations."""
        return cls(torch.tensor([seed]), torch.zeros(0, dtype=torch.float64))

    def mutated(self, seed: int, sigma: float) -> Genome:
        """A child."""
        return Genome(
            torch.cat([self.seeds, torch.tensor([seed])]),
            torch.cat([self.sigmas, torch.tensor([sigma], dtype=torch.float64)]),
        )

    def weights(self, init: Callable[[Key], Theta], device: torch.device | str = "cpu") -> Theta:
        """The individual's weights.

        Args:
            init: first weights from a key; for a learner `lambda key: learner.init(spec, key)`.
            device: where they go; they are the same to the last bit on the device and under the version of torch that
                they evolved on.
        """
        first, *mutations = self.seeds.tolist()
        theta = init(first_key(first, device))
        for seed, sigma in zip(mutations, self.sigmas.tolist(), strict=True):
            noise = noise_of(theta, torch.tensor(seed, device=device))
            theta = {name: value + sigma * noise[name] for name, value in theta.items()}
        return theta

    def to_bytes(self) -> bytes:
        """Eight bytes, four for each seed and eight for each standard deviation."""
        seeds, sigmas = self.seeds.tolist(), self.sigmas.tolist()
        return _HEADER.pack(_MAGIC, len(sigmas)) + struct.pack(f"<{len(seeds)}I{len(sigmas)}d", *seeds, *sigmas)

    @classmethod
    def from_bytes(cls, data: bytes) -> Genome:
        """The reverse of `to_bytes`.

        Raises:
            UserError: these bytes are not a genome.
        """
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise UserError("these bytes are not a genome: they don't begin with 'DGA1'")
        mutations = _HEADER.unpack_from(data)[1]
        body = struct.Struct(f"<{mutations + 1}I{mutations}d")
        if len(data) != _HEADER.size + body.size:
            raise UserError(
                f"a genome of {mutations} mutations has {_HEADER.size + body.size} bytes, these are {len(data)}"
            )
        values = body.unpack_from(data, _HEADER.size)
        seeds, sigmas = values[: mutations + 1], values[mutations + 1 :]
        return cls(torch.tensor(seeds), torch.tensor(sigmas, dtype=torch.float64))


def first_key(seed: int, device: torch.device | str) -> Key:
    """What an individual's first weights are drawn from."""
    return Key.of(seed, device).fold("first")


def noise_of(theta: Theta, seeds: Tensor) -> Theta:
    """Standard normal noise for seeds `[*batch]`, leaves `[*batch, ...]`.

    From a counter-based generator keyed by the seed: nothing is stored and no two seeds overlap, unlike slices of one
    table. Leaves take their numbers in theta's order.
    """
    values = list(theta.values())
    dtype = reduce(torch.promote_types, (value.dtype for value in values))
    flat = Key.of(0, seeds.device).fold("mutation").fold(seeds).normal(sum(v.numel() for v in values), dtype=dtype)
    parts = torch.split(flat, [value.numel() for value in values], dim=-1)
    return {
        name: part.reshape(*seeds.shape, *value.shape).to(value.dtype)
        for (name, value), part in zip(theta.items(), parts, strict=True)
    }
