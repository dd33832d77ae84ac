"""Maps of grid worlds, drawn with characters."""

from __future__ import annotations

from typing import NamedTuple

from metaloop import UserError


class Plan(NamedTuple):
    """What a map says."""

    width: int
    """Cells along a side of the square around the map."""
    walls: tuple[bool, ...]
    """For each cell of the square, row by row; all that the map leaves out is wall."""
    places: tuple[int, ...]
    """The cell of the agent's start and of each object; -1 where the map does not place it."""


def read_plan(rows: tuple[str, ...], objects: int) -> Plan:
    """Read rows of `#` (wall), `.` (free), `A` (the agent's start) and `1` to `9` (where that object lies).

    Raises:
        UserError: another character, one place given twice, or too few free cells.
    """
    marks = ["A", *(str(1 + i) for i in range(objects))]
    text = "".join(rows)
    odd = set(text) - {"#", ".", *marks}
    if odd:
        raise UserError(f"GridWorld.plan: {min(odd)!r} is none of # . {' '.join(marks)}")
    twice = [mark for mark in marks if text.count(mark) > 1]
    if twice:
        raise UserError(f"GridWorld.plan: {twice[0]} is there more than once")
    if len(text) - text.count("#") <= objects:
        raise UserError(f"GridWorld.plan: no room for the agent and {objects} objects")
    width = max(len(rows), *map(len, rows))
    square = "".join(row.ljust(width, "#") for row in rows).ljust(width**2, "#")
    return Plan(width, tuple(mark == "#" for mark in square), tuple(square.find(mark) for mark in marks))
