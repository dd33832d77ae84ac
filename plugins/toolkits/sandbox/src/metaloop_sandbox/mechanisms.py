"""What the host offers, strongest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mechanism = Literal["bubblewrap", "landlock", "seccomp", "rlimits"]


@dataclass(frozen=True)
class Protection:
    """Which mechanism runs the code, what it holds off and what it does not."""

    mechanism: Mechanism
    layers: tuple[str, ...]
    holds_off: tuple[str, ...]
    not_held_off: tuple[str, ...]


def choose(mechanism: Mechanism | Literal["auto"], minimum: Mechanism) -> Protection:
    """The strongest mechanism that works here; UserError if it is weaker than `minimum`."""
    raise NotImplementedError
