"""Measure claims and judge them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import platform
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metaloop import plugins
from metaloop.claims.model import FIRST_JUDGED_SEED, Claim, ClaimResult, Setting, VerifyReport
from metaloop.claims.sample import MIN_UNITS, Judgement, Sample
from metaloop.errors import MetaloopError, UnknownName, UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimProgress:
    """Where a verify is: told when a claim begins, whenever its measure says so, and when it is judged."""

    claim: Claim
    index: int
    """From 0."""
    total: int
    description: str
    fraction: float | None = None
    """How much of this claim is done, 0 to 1; None where the measure does not say."""
    result: ClaimResult | None = None
    """Set when the claim is judged."""


def verify(
    claims: Sequence[Claim],
    *,
    seeds: int | None = None,
    full: bool = False,
    only: Sequence[str] = (),
    device: str = "cpu",
    first_seed: int = FIRST_JUDGED_SEED,
    broken: bool = False,
    on_progress: Callable[[ClaimProgress], None] | None = None,
    command: str | None = None,
) -> VerifyReport:
    """Measure every claim over its seeds and judge it; a measure that raises breaks its own claim only.

    Args:
        claims: What to measure; ids must differ.
        seeds: How many seeds for every claim, instead of its own `seeds` (with `full`: `full_seeds`).
        full: Ask for the recorded measurement.
        only: Ids of the claims to measure; empty for all.
        device: Where the measures run, a torch device.
        first_seed: The seeds are this and those that follow; tune on none of them.
        broken: Break every treatment, to see each claim fail.
        on_progress: Told of each claim's begin, progress and result.
        command: What the report names as its command; by default the line that started this process.

    Raises:
        UnknownName: `only` names no claim.
        UserError: a number of seeds below 1, a negative first seed, no claims or two of one id.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")
    if first_seed < 0:
        raise UserError(f"first_seed must be 0 or more, got {first_seed}")
    chosen = _choose(claims, only)
    memo: dict[tuple[str, tuple[int, ...]], Any] = {}
    results = []
    for index, claim in enumerate(chosen):
        report = functools.partial(_report, on_progress, claim, index, len(chosen))
        n = seeds or (claim.full_seeds if full else claim.seeds)
        setting = Setting(
            seeds=tuple(range(first_seed, first_seed + n)),
            full=full,
            device=device,
            broken=broken,
            on_progress=report,
            memo=memo,
        )
        report("begins", 0.0)
        result = _result(claim, setting)
        report(result.verdict, 1.0, result)
        results.append(result)
    return VerifyReport(
        results=tuple(results),
        full=full,
        broken=broken,
        partial=len(chosen) < len(claims),
        device=device,
        hardware=_hardware(device),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "scipy")}
        | plugins.versions(),
        date=datetime.now(UTC).replace(microsecond=0),
        command=_command() if command is None else command,
    )


def _choose(claims: Sequence[Claim], only: Sequence[str]) -> list[Claim]:
    counts = Counter(claim.id for claim in claims)
    if not counts:
        raise UserError("there are no claims to verify")
    if twice := [id for id, count in counts.items() if count > 1]:
        raise UserError(f"two claims have the id {twice[0]!r}; ids must differ")
    if unknown := [id for id in only if id not in counts]:
        raise UnknownName(f"No claim is called {unknown[0]!r}.{plugins.nearest(unknown[0], counts)}")
    return [claim for claim in claims if not only or claim.id in only]


def _result(claim: Claim, setting: Setting) -> ClaimResult:
    start = time.perf_counter()
    values: dict[str, Any] = {}
    try:
        sample = claim.measure(setting)
        judgement = _judge(claim, setting, sample)
        values = {"treatment": sample.treatment, "baseline": sample.baseline}
    except Exception as error:
        if not isinstance(error, MetaloopError):
            _log.warning("the measure of claim %r broke", claim.id, exc_info=True)
        judgement = Judgement("broke", plugins.reason(error), n=0)
    return ClaimResult(
        id=claim.id,
        statement=claim.statement,
        where=claim.where,
        paper_value=claim.paper_value,
        relation=claim.relation.describe(),
        unit=claim.unit,
        note=claim.note,
        seconds=time.perf_counter() - start,
        seeds=setting.seeds,
        **dataclasses.asdict(judgement),
        **values,
    )


def _judge(claim: Claim, setting: Setting, sample: object) -> Judgement:
    """The verdict of a claim on what its measure returned; raises `UserError` for what is no sample of the claim."""
    if not isinstance(sample, Sample):
        raise UserError(f"its measure returned {type(sample).__name__}, not a metaloop.claims.Sample")
    n_seeds = len(setting.seeds)
    if claim.unit == "seed" and sample.n != n_seeds:
        raise UserError(f"its measure returned {sample.n} values for {n_seeds} seeds; its unit is the seed")
    judgement = claim.relation.verdict(sample)
    if claim.relation.exact or n_seeds >= MIN_UNITS or sample.n < MIN_UNITS:
        return judgement
    return judgement.withheld(f"{n_seeds} seeds: below {MIN_UNITS} only an identity gets a verdict")


def _report(
    on_progress: Callable[[ClaimProgress], None] | None,
    claim: Claim,
    index: int,
    total: int,
    description: str,
    fraction: float | None = None,
    result: ClaimResult | None = None,
) -> None:
    if on_progress:
        on_progress(ClaimProgress(claim, index, total, description, fraction, result))


def _hardware(device: str) -> dict[str, str]:
    found = {"machine": f"{platform.system()} {platform.machine()}", "cpus": str(os.cpu_count()), "device": device}
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            found["device"] = torch.cuda.get_device_name(device)
    return found


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
