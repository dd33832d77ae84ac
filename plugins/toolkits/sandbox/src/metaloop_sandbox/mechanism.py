"""The mechanisms' names, strongest first."""

from __future__ import annotations

from typing import Literal, get_args

Mechanism = Literal["bubblewrap", "landlock", "seccomp", "rlimits"]

MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
