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
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from metaloop import plugins
from metaloop.claims.model import FIRST_JUDGED_SEED, Claim, ClaimResult, Report, Setting, VerifyReport
from metaloop.claims.sample import MIN_UNITS, Judgement, Sample
from metaloop.errors import MetaloopError, UnknownName, UserError
from metaloop.executors import Executor, InProcess

_log = logging.getLogger(__name__)


Memo = dict[tuple[str, tuple[int, ...]], Any]


class How(NamedTuple):
    """What was asked of a verify; travels to workers."""

    seeds: int | None
    full: bool
    device: str
    first_seed: int
    broken: bool

    def setting(self, claim: Claim, memo: Memo, report: Report | None = None) -> Setting:
        """The setting in which a claim is measured."""
        n = self.seeds or (claim.full_seeds if self.full else claim.seeds)
        seeds = tuple(range(self.first_seed, self.first_seed + n))
        return Setting(seeds, self.full, self.device, self.broken, report, memo)


@dataclass(frozen=True)
class ClaimProgress:
    """Where a verify is: told when a claim begins, whenever its measure says so, and when it is judged.

    Of claims that an executor's workers measure only the last is told, group by group as they end.
    """

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
    executor: Executor | None = None,
    target: str | None = None,
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
        executor: Where groups of claims are measured; None: one claim after the other, here.
        target: Where workers find the claims, `"package.module:CLAIMS"`; needed with an executor.

    Raises:
        UnknownName: `only` names no claim.
        UserError: a number of seeds below 1, a negative first seed, no claims or two of one id, no target for workers.
        RunError: a worker was lost.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")
    if first_seed < 0:
        raise UserError(f"first_seed must be 0 or more, got {first_seed}")
    chosen = _choose(claims, only)
    how = How(seeds, full, device, first_seed, broken)
    told = on_progress or (lambda progress: None)
    if executor is None or isinstance(executor, InProcess):
        results = _here(chosen, how, told)
    elif target is None:
        raise UserError("claims measured by workers are loaded there by name: give target='package.module:CLAIMS'")
    else:
        results = _elsewhere(chosen, how, told, executor, target)
    return VerifyReport(
        results=results,
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


def _here(claims: Sequence[Claim], how: How, told: Callable[[ClaimProgress], None]) -> tuple[ClaimResult, ...]:
    memo: Memo = {}
    results = []
    for index, claim in enumerate(claims):
        report = functools.partial(_report, told, claim, index, len(claims))
        report("begins", 0.0)
        measured = _measure(claim, how.setting(claim, memo, report))
        _note(measured)
        report(measured.result.verdict, 1.0, measured.result)
        results.append(measured.result)
    return tuple(results)


def _elsewhere(
    claims: Sequence[Claim], how: How, told: Callable[[ClaimProgress], None], executor: Executor, target: str
) -> tuple[ClaimResult, ...]:
    """An item is a group of claims; they are told of as their group ends."""
    index = {claim.id: number for number, claim in enumerate(claims)}
    groups: dict[tuple[str, str], list[str]] = {}
    for claim in claims:
        groups.setdefault((claim.group, "" if claim.group else claim.id), []).append(claim.id)
    results: dict[str, ClaimResult] = {}
    ended = executor.map(_measure_group, [_Group(target, tuple(ids), how) for ids in groups.values()])
    try:
        for _, group in ended:
            for measured in group:
                result = results[measured.result.id] = measured.result
                _note(measured)
                number = index[result.id]
                _report(told, claims[number], number, len(claims), result.verdict, 1.0, result)
    finally:
        if callable(close := getattr(ended, "close", None)):
            close()  # or workers would go on behind an exception's traceback
    return tuple(results[claim.id] for claim in claims)


class _Group(NamedTuple):
    """Claims by name: a measure may be a closure, which can't travel."""

    target: str
    ids: tuple[str, ...]
    how: How


class _Measured(NamedTuple):
    result: ClaimResult
    traceback: str = ""
    """Where the measure broke unexpectedly."""


def _measure_group(group: _Group) -> list[_Measured]:
    """In a worker: the claims of a group, one after the other."""
    found: Any = plugins.load(group.target)
    claims = {claim.id: claim for claim in found}
    memo: Memo = {}
    return [_measure(claims[id], group.how.setting(claims[id], memo)) for id in group.ids]


def _measure(claim: Claim, setting: Setting) -> _Measured:
    start, broke = time.perf_counter(), ""
    values: dict[str, Any] = {}
    try:
        sample = claim.measure(setting)
        judgement = _judge(claim, setting, sample)
        values = {"treatment": sample.treatment, "baseline": sample.baseline}
    except Exception as error:
        broke = "" if isinstance(error, MetaloopError) else traceback.format_exc()
        judgement = Judgement("broke", plugins.reason(error), n=0)
    result = ClaimResult(
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
    return _Measured(result, broke)


def _note(measured: _Measured) -> None:
    if measured.traceback:
        _log.warning("the measure of claim %r broke\n%s", measured.result.id, measured.traceback)


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
    told: Callable[[ClaimProgress], None],
    claim: Claim,
    index: int,
    total: int,
    description: str,
    fraction: float | None = None,
    result: ClaimResult | None = None,
) -> None:
    told(ClaimProgress(claim, index, total, description, fraction, result))


def _hardware(device: str) -> dict[str, str]:
    found = {"machine": f"{platform.system()} {platform.machine()}", "cpus": str(os.cpu_count()), "device": device}
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            found["device"] = torch.cuda.get_device_name(device)
    return found


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
