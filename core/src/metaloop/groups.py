"""Runs that differ in nothing but their seed, as groups: what means and intervals are over."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from metaloop.store import Run
from metaloop.summaries import Mean, interval, numbers

_CHILD = re.compile(r"(?P<number>\d+) (?:(?P<words>.*) )?seed=\d+", re.DOTALL)
"""What a sweep calls its runs."""


@dataclass(frozen=True)
class Member:
    """A run, read once."""

    run: Run

    @cached_property
    def info(self) -> dict[str, Any]:
        """What its `run.json` says."""
        return self.run.info

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Its closing numbers, by flattened name."""
        return dict(numbers(self.run.result() or {}))

    @cached_property
    def status(self) -> str:
        """How it ended, or that it runs."""
        return self.run.status

    @property
    def seed(self) -> Any:
        """Its seed; None where it has none."""
        return self.info["config"].get("seed")

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by path, and the versions it ran under."""
        versions = self.info.get("versions") or {}
        return dict(_leaves(self.info["config"])) | {f"version of {name}": value for name, value in versions.items()}


@dataclass(frozen=True)
class Group:
    """Runs under one label, at least one; no two of several have the same seed."""

    label: str
    members: tuple[Member, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs."""
        return tuple(member.run for member in self.members)

    @cached_property
    def settings(self) -> dict[str, list[Any]]:
        """By path, the values that its runs have."""
        found: dict[str, list[Any]] = {}
        for member in self.members:
            for path, value in member.settings.items():
                if value not in found.setdefault(path, []):
                    found[path].append(value)
        return found

    def values(self, metric: str) -> list[float]:
        """A closing number of those runs that have it."""
        return [member.numbers[metric] for member in self.members if metric in member.numbers]

    def means(self) -> dict[str, Mean]:
        """Every closing number's mean and interval."""
        names = dict.fromkeys(name for member in self.members for name in member.numbers)
        return {name: interval(self.values(name)) for name in names}


def alone(runs: Sequence[Run]) -> list[Group]:
    """Every run by itself, a sweep's too."""
    members = [member for run in runs for member in _spread(run)]
    parents = {member.info.get("parent") for member in members}
    by_id = parents == {None} or len(parents) > 1
    return [Group(member.run.id if by_id else str(member.info["name"]), (member,)) for member in members]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """A sweep as its points, one group each; other runs that differ in nothing but their seed as one group."""
    sweeps = [run for run in runs if run.info["kind"] == "sweep"]
    names = Counter(run.name for run in sweeps)
    found: list[tuple[int, str, str, list[Member]]] = []  # (place, label, another where several have it, runs)
    for run in sweeps:
        name = run.name if names[run.name] == 1 else run.id
        for members in _alike(_spread(run), lambda member: [_words(member), member.info["config"]]):
            words = _words(members[0])
            label = f"{name} {words}" if words and len(runs) > 1 else words or name
            found.append((runs.index(run), label, f"{label} #{_number(members[0])}", members))
    plain = [Member(run) for run in runs if run not in sweeps]
    for members in _alike(plain, lambda member: [member.info["config"], member.info.get("versions")]):
        first, more = members[0].run, len(members) - 1
        label = str(members[0].info["name"]) if more else first.id
        found.append((runs.index(first), label, f"{first.id} and {more} more", members))
    found.sort(key=lambda group: group[0])
    labels = Counter(label for _, label, _, _ in found)
    return [Group(label if labels[label] == 1 else other, tuple(members)) for _, label, other, members in found]


def differing(groups: Sequence[Group]) -> dict[str, list[list[Any]]]:
    """The settings that are not the same in all groups; none where a group has none of that path."""
    paths = dict.fromkeys(path for group in groups for path in group.settings)
    rows = {path: [group.settings.get(path, []) for group in groups] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}


def _spread(run: Run) -> list[Member]:
    """The runs that stand for a run: those of a sweep, in order, else itself."""
    return sorted(map(Member, run.children()), key=_number) if run.info["kind"] == "sweep" else [Member(run)]


def _number(member: Member) -> int:
    match = _CHILD.fullmatch(str(member.info["name"]))
    return int(match["number"]) if match else 0


def _words(member: Member) -> str:
    """The settings in a sweep's name for a run."""
    match = _CHILD.fullmatch(str(member.info["name"]))
    return match["words"] or "" if match else str(member.info["name"])


def _alike(members: Sequence[Member], what: Callable[[Member], list[Any]]) -> list[list[Member]]:
    """Runs of which `what` is the same but for the seed; one that has a seed again begins another group."""
    found: dict[tuple[str, int], list[Member]] = {}
    times: Counter[tuple[str, Any]] = Counter()
    for member in members:
        key = json.dumps([_without_seed(part) for part in what(member)], sort_keys=True)
        times[key, str(member.seed)] += 1
        found.setdefault((key, times[key, str(member.seed)]), []).append(member)
    return list(found.values())


def _without_seed(part: Any) -> Any:
    return {name: value for name, value in part.items() if name != "seed"} if isinstance(part, Mapping) else part


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value
