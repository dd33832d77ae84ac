"""A claim of a paper, the setting in which it is measured, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from metaloop.claims.relation import Relation
from metaloop.claims.sample import MIN_UNITS, Sample, Verdict
from metaloop.errors import UserError

Shared = TypeVar("Shared")
Report = Callable[[str, float | None], None]

FIRST_JUDGED_SEED = 1000
"""Claims are judged on seeds from here up; whatever is tuned is tuned on seeds below."""


@dataclass(frozen=True)
class Setting:
    """How a measure is asked to measure."""

    seeds: tuple[int, ...]
    """Measure one value per seed. Where theta is tensors, run all seeds as one batch."""
    full: bool = False
    """The recorded measurement (up to an hour for all claims) instead of the plain one."""
    device: str = "cpu"
    broken: bool = False
    """Break the treatment on purpose (learning rate 0, shuffled labels, the ablated term), so that the claim fails."""
    on_progress: Report | None = field(default=None, repr=False, compare=False)
    memo: dict[tuple[str, tuple[int, ...]], Any] = field(default_factory=dict, repr=False, compare=False)

    def share(self, name: str, make: Callable[[], Shared]) -> Shared:
        """What `make` returned when it was first called under this name for these seeds in this verify.

        For what several claims measure on, such as a trained theta.
        """
        key = (name, self.seeds)
        if key not in self.memo:
            self.memo[key] = make()
        shared: Shared = self.memo[key]
        return shared

    def progress(self, description: str, fraction: float | None = None) -> None:
        """Say what the measure is at, and how much of it (0 to 1) is done."""
        if self.on_progress:
            self.on_progress(description, fraction)


@dataclass(frozen=True)
class Claim:
    """One statement of a paper that can be measured."""

    id: str
    statement: str
    """What is claimed; where the margin or the setting differs from the paper's, it says so."""
    where: str
    """The place in the paper, for example `"Fig. 2, left"`."""
    paper_value: str
    measure: Callable[[Setting], Sample]
    relation: Relation
    unit: str = "seed"
    """What is resampled: a sample has one value per unit. With `"seed"` it must have one per seed of the setting."""
    seeds: int = MIN_UNITS
    full_seeds: int = 10
    minutes: float = 1.0
    """About how long the plain measurement takes on 2 CPU cores."""
    note: str = ""
    group: str = ""
    """Claims of one group `share` what is expensive: an executor keeps them together. Empty: on its own."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= self.full_seeds:
            raise UserError(
                f"claim {self.id!r} needs 1 <= seeds <= full_seeds, "
                f"got seeds={self.seeds} and full_seeds={self.full_seeds}"
            )
        if not self.relation.exact and self.full_seeds < MIN_UNITS:
            raise UserError(f"claim {self.id!r} can never hold: full_seeds={self.full_seeds} is below {MIN_UNITS}")


class _Record(BaseModel):
    # NaN and infinities are written as strings: JSON has no numbers for them.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ClaimResult(_Record):
    """What was measured for one claim, and the verdict."""

    id: str
    statement: str
    where: str
    paper_value: str
    relation: str
    unit: str
    note: str
    verdict: Verdict
    reason: str
    n: int
    """How many units were measured; 0 where the measure broke."""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    seconds: float
    """Wall time; the first of the claims that share a result pays for it."""
    seeds: tuple[int, ...]
    treatment: tuple[float, ...] = ()
    baseline: tuple[float, ...] | None = None

    def to_json(self) -> str:
        """This result as JSON."""
        return self.model_dump_json(indent=2)


class VerifyReport(_Record):
    """The results of one verify, and what they were measured on."""

    results: tuple[ClaimResult, ...]
    full: bool
    broken: bool
    """Whether every treatment was broken on purpose; such a report is a test of the claims and is never recorded."""
    partial: bool
    """Whether only some of the claims were asked for."""
    device: str
    hardware: dict[str, str]
    versions: dict[str, str]
    date: datetime
    command: str

    @property
    def failed(self) -> bool:
        """Whether a claim fails or a measure broke (exit code 1)."""
        return any(result.verdict in ("fails", "broke") for result in self.results)

    def to_json(self) -> str:
        """This report as JSON; `VerifyReport.model_validate_json` reads it back."""
        return self.model_dump_json(indent=2)
