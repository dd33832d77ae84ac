"""Timing two ways to do one thing, side by side: interleaved rounds, medians, and their ratio with an interval."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from metaloop import tracking
from metaloop.plugins import versions
from rich.console import Console
from rich.table import Table

os.environ.setdefault(tracking.VARIABLE, tracking.OFF)  # what is measured is not tracked, unless tracking is measured


class Comparison(NamedTuple):
    """How long two ways take."""

    name: str
    first: str
    second: str
    first_ms: float
    second_ms: float
    ratio: float
    """Median of the second over median of the first."""
    low: float
    high: float
    """95% bootstrap interval of the ratio over rounds."""
    rounds: int


def compare(
    name: str,
    first: tuple[str, Callable[[], object]],
    second: tuple[str, Callable[[], object]],
    *,
    rounds: int = 30,
    calls: tuple[int, int] = (1, 1),
    warmup: int = 2,
) -> Comparison:
    """Time two callables in interleaved rounds, each going first in every second round.

    Args:
        name: what is compared.
        first: label and callable.
        second: label and callable; the ratio says how many times longer it takes.
        rounds: timed rounds.
        calls: how often each is called per round, for callables of very different speed.
        warmup: untimed rounds before.
    """
    ways = [(label, fn, n) for (label, fn), n in zip((first, second), calls, strict=True)]
    for _, fn, _ in ways * warmup:
        fn()
    times: list[list[float]] = [[], []]
    for i in range(rounds):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            _, fn, n = ways[which]
            started = time.perf_counter()
            for _ in range(n):
                fn()
            times[which].append((time.perf_counter() - started) / n)
    low, high = interval(times[0], times[1])
    medians = [statistics.median(each) for each in times]
    return Comparison(
        name, first[0], second[0], 1e3 * medians[0], 1e3 * medians[1], medians[1] / medians[0], low, high, rounds
    )


def interval(first: Sequence[float], second: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """95% percentile bootstrap of the ratio of medians; rounds are resampled as pairs."""
    a, b = np.asarray(first), np.asarray(second)
    rows = np.random.default_rng(0).integers(len(a), size=(draws, len(a)))
    ratios = np.median(b[rows], axis=1) / np.median(a[rows], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def microseconds(
    fn: Callable[[], object], *, rounds: int = 20, calls: int = 100, warmup: int = 20
) -> tuple[float, float]:
    """Median and interquartile range of a quick callable's time per call."""
    for _ in range(warmup):
        fn()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            fn()
        times.append(1e6 * (time.perf_counter() - started) / calls)
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)


def arguments(description: str, more: Mapping[str, str] | None = None, *, rounds: int = 30) -> argparse.Namespace:
    """Command line of every benchmark, with `more` options and their help; sets the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds per comparison")
    for name, text in (more or {}).items():
        parser.add_argument(f"--{name}", default="", help=text)
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    return parsed


class Answering:
    """A script in another interpreter that says what it is, then answers each line with one line: a peer of its own."""

    def __init__(self, python: str, script: str, *words: object) -> None:
        path = Path(__file__).with_name(script)
        self._name = script
        self._process = subprocess.Popen(
            [python, str(path), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version, self._calls = self._answer(), 0

    def __call__(self) -> None:
        self._calls += 1
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._calls}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{self._name} ended: see its message above")
        return line

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def report(title: str, comparisons: Sequence[Comparison], facts: dict[str, Any], given: argparse.Namespace) -> None:
    """Print the comparisons and the facts beside them, and write them where `--json` says."""
    table = Table("what", "", "ms", "", "ms", "ratio", "95% interval", "rounds", title=title)
    for row in comparisons:
        table.add_row(
            row.name,
            row.first,
            f"{row.first_ms:.2f}",
            row.second,
            f"{row.second_ms:.2f}",
            f"{row.ratio:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            str(row.rounds),
        )
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for name, value in facts.items():
        console.print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}", markup=False)
    hardware = f"{processor()}, {given.threads} of {os.cpu_count()} threads"
    console.print(f"{hardware}; " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    if given.json:
        found = {
            "title": title,
            "comparisons": [row._asdict() for row in comparisons],
            "facts": facts,
            "hardware": hardware,
            "versions": versions(),
        }
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def processor() -> str:
    """The processor's name, as well as the system tells."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0].strip() if names else platform.processor() or platform.machine()
