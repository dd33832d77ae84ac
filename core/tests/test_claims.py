"""Claims are measured seed by seed, judged, and kept in a table that survives being stored."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from metaloop.claims import (
    Claim,
    ClaimProgress,
    Greater,
    Identity,
    Less,
    Sample,
    Setting,
    VerifyReport,
    load_record,
    markdown,
    record,
    render,
    verify,
)
from metaloop.errors import DataError, UnknownName, UserError
from rich.console import Console

ONES = (1.0, 1.1, 0.9, 1.05, 0.95)
TWOS = (2.0, 2.2, 1.9, 2.1, 1.8)


def a_claim(id: str = "C1", measure: Callable[[Setting], Sample] | None = None, **changes: object) -> Claim:
    fields: dict[str, object] = {
        "statement": "two is more than one",
        "where": "Table 1",
        "paper_value": "1.0",
        "measure": measure or (lambda setting: Sample(TWOS, ONES)),
        "relation": Greater(0.5),
    }
    return Claim(id=id, **(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"seeds": 3, "full_seeds": 4}, {"seeds": 11, "full_seeds": 10}, {"seeds": 0}])
def test_a_claim_of_impossible_seeds_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="'C1'"):
        a_claim(**wrong)


def test_verify_judges_on_seeds_from_1000_and_counts_as_asked() -> None:
    def seeds_seen(setting: Setting) -> Sample:
        return Sample([seed + 0.1 for seed in setting.seeds], setting.seeds)

    claims = (a_claim(measure=seeds_seen, relation=Identity(0.2), seeds=3, full_seeds=7),)
    assert verify(claims).results[0].seeds == (1000, 1001, 1002)
    assert verify(claims, full=True).results[0].n == 7
    assert verify(claims, seeds=2, full=True, first_seed=5).results[0].seeds == (5, 6)


def descend(setting: Setting) -> Sample:
    """The loss on a noisy quadratic after 20 steps of gradient descent, beside the loss before."""
    start = np.stack([np.random.default_rng(seed).normal(2.0, 0.3, size=4) for seed in setting.seeds])  # [seed, dim]
    rate = 0.0 if setting.broken else 0.2
    end = start * (1 - rate) ** 20
    return Sample((end**2).mean(axis=1), (start**2).mean(axis=1))


def test_a_claim_is_seen_to_fail_when_its_treatment_is_broken() -> None:
    claims = (a_claim(measure=descend, relation=Less(0.1, ratio=True)),)
    assert [result.verdict for result in verify(claims).results] == ["holds"]
    broken = verify(claims, broken=True)
    assert [result.verdict for result in broken.results] == ["fails"]
    assert broken.failed


def test_a_measure_that_raises_breaks_its_own_claim_only() -> None:
    def divide(setting: Setting) -> Sample:
        return Sample([1 / 0])

    def refuse(setting: Setting) -> Sample:
        raise UserError("the atari extra is missing: install it")

    report = verify([a_claim("zero", divide), a_claim("extra", refuse), a_claim("fine")])
    zero, extra, fine = report.results
    assert (zero.verdict, zero.reason, zero.n) == ("broke", "ZeroDivisionError: division by zero", 0)
    assert (extra.verdict, extra.reason) == ("broke", "the atari extra is missing: install it")
    assert fine.verdict == "holds"
    assert report.failed
    assert not verify([a_claim("fine")]).failed


@pytest.mark.parametrize("returned", [(1.0, 2.0), Sample(TWOS[:3], ONES[:3])])
def test_a_measure_that_returns_something_else_is_broken(returned: Sample) -> None:
    (result,) = verify([a_claim(measure=lambda setting: returned)]).results
    assert result.verdict == "broke"
    assert "its measure returned" in result.reason


def test_many_units_do_not_replace_seeds() -> None:
    episodes = a_claim(measure=lambda setting: Sample(TWOS * 20, ONES * 20), unit="episode")
    assert verify([episodes]).results[0].verdict == "holds"
    (result,) = verify([episodes], seeds=3).results
    assert (result.verdict, result.n) == ("inconclusive", 100)
    assert "3 seeds" in result.reason


def test_ctrl_c_stops_a_verify() -> None:
    def interrupted(setting: Setting) -> Sample:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify([a_claim(measure=interrupted)])


def test_claims_share_what_is_expensive() -> None:
    trained: list[tuple[int, ...]] = []

    def measure(setting: Setting) -> Sample:
        def train() -> tuple[float, ...]:
            trained.append(setting.seeds)
            return TWOS[: len(setting.seeds)]

        return Sample(setting.share("train", train), ONES[: len(setting.seeds)])

    claims = (a_claim("a", measure), a_claim("b", measure), a_claim("c", measure, seeds=3))
    verify(claims)
    assert [len(seeds) for seeds in trained] == [5, 3]  # claims of other seeds need their own
    verify(claims[:1])
    assert len(trained) == 3  # nothing outlives a verify


def test_progress_is_told_in_order() -> None:
    def measure(setting: Setting) -> Sample:
        setting.progress("half way", 0.5)
        return Sample(TWOS, ONES)

    told: list[ClaimProgress] = []
    verify([a_claim("a", measure), a_claim("b")], on_progress=told.append)
    assert [(p.claim.id, p.index, p.total, p.description, p.fraction) for p in told] == [
        ("a", 0, 2, "begins", 0.0),
        ("a", 0, 2, "half way", 0.5),
        ("a", 0, 2, "holds", 1.0),
        ("b", 1, 2, "begins", 0.0),
        ("b", 1, 2, "holds", 1.0),
    ]
    assert [p.result.id for p in told if p.result] == ["a", "b"]


def test_only_the_claims_that_were_asked_for() -> None:
    claims = (a_claim("loss"), a_claim("cosine"))
    assert [result.id for result in verify(claims, only=["cosine"]).results] == ["cosine"]
    with pytest.raises(UnknownName, match="'cosine'"):
        verify(claims, only=["cosin"])


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"first_seed": -1}, {"claims": ()}, {"claims": (a_claim(), a_claim())}]
)
def test_verify_refuses_what_it_cannot_do(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        verify(**({"claims": (a_claim(),)} | wrong))  # type: ignore[arg-type]


@pytest.fixture
def report() -> VerifyReport:
    def diverge(setting: Setting) -> Sample:
        return Sample((*TWOS[:3], math.nan, math.inf), ONES)

    claims = (a_claim("C1", note="at batch 8 | not 16"), a_claim("C2", diverge), a_claim("C3", lambda setting: 1 / 0))
    return verify(claims, command="metaloop verify demo --record")


def test_a_record_comes_back_as_it_was(report: VerifyReport, tmp_path: Path) -> None:
    table = record(report, tmp_path / "new" / "folder")
    loaded = load_record(table.parent)
    assert loaded.to_json() == report.to_json()
    assert loaded.results[0] == report.results[0]
    assert loaded.results[1].treatment[4] == math.inf
    json.loads((table.parent / "claims.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)  # strict JSON
    assert json.loads(report.results[0].to_json())["verdict"] == "holds"


def test_the_record_shows_what_a_reader_needs(report: VerifyReport, tmp_path: Path) -> None:
    text = record(report, tmp_path).read_text(encoding="utf-8")
    assert text == markdown(report)
    for needed in ("two is more than one", "Table 1", "5 seeds", "Student t", "**holds**", "**broke**: ZeroDivision"):
        assert needed in text
    for needed in (report.command, "torch", "metaloop", f"{report.date:%Y-%m-%d}", report.hardware["machine"]):
        assert needed in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_the_terminal_shows_the_interval(report: VerifyReport) -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(report))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    first = report.results[0]
    assert f"{first.estimate:.4g} [{first.low:.4g}, {first.high:.4g}]" in shown
    assert "5 seeds" in shown


def test_a_full_disk_leaves_the_earlier_record(
    report: VerifyReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        record(verify([a_claim("other")]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_only_a_whole_honest_report_is_recorded(tmp_path: Path) -> None:
    claims = (a_claim("a"), a_claim("b"))
    for refused in (verify(claims, broken=True), verify(claims, only=["a"])):
        with pytest.raises(UserError):
            record(refused, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_and_a_spoilt_record_are_named(report: VerifyReport, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"claims\.json"):
        load_record(tmp_path)
    (tmp_path / "claims.json").write_text('{"results": 3}')
    with pytest.raises(DataError, match="results"):
        load_record(tmp_path)
    with pytest.raises(UserError, match="recorded"):
        record(report, tmp_path / "claims.json")


def test_importing_claims_is_light() -> None:
    code = "import sys, metaloop.claims; print(sorted({'torch', 'scipy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
