"""All domains by name."""

from __future__ import annotations

from metaloop_adas.arithmetic import Arithmetic
from metaloop_adas.domain import Domain
from metaloop_adas.grids import Grids
from metaloop_adas.lists import Lists

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (Grids(), Lists(), Arithmetic())}


def experts(domain: str) -> tuple[str, ...]:
    """Who knows something of a domain; grids of files have those of grids."""
    return DOMAINS["grid" if domain == "arc" else domain].experts
