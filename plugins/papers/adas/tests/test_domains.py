"""Domains: their steps on hand-made grids and lists, and tasks that have one answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metaloop_adas.domain import part_of
from metaloop_adas.domains import DOMAINS
from metaloop_adas.rewriting import Rewriting

GRID = [[0, 1, 1], [0, 1, 2], [3, 0, 0]]


def outcome(domain: str, step: str, value: Any) -> Any:
    own = DOMAINS[domain]
    assert isinstance(own, Rewriting)
    done = own.steps[step][1](own.batch([value]))
    return own.value(done.cells[0], done.size[0]) if done.size[0].any() else None


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("rotate_90", [[3, 0, 0], [0, 1, 1], [0, 2, 1]]),
        ("flip_left_right", [[1, 1, 0], [2, 1, 0], [0, 0, 3]]),
        ("shift_right", [[1, 0, 1], [2, 0, 1], [0, 3, 0]]),
        ("tile_right", [[0, 1, 1, 0, 1, 1], [0, 1, 2, 0, 1, 2], [3, 0, 0, 3, 0, 0]]),
        ("most_to_8", [[0, 8, 8], [0, 8, 2], [3, 0, 0]]),
        ("least_to_6", [[0, 1, 1], [0, 1, 6], [3, 0, 0]]),
        ("invert", [[1, 0, 0], [1, 0, 0], [0, 1, 1]]),
        ("fall_down", [[0, 0, 0], [0, 1, 1], [3, 1, 2]]),
        ("fall_up", [[3, 1, 1], [0, 1, 2], [0, 0, 0]]),
        ("largest_object", [[0, 1, 1], [0, 1, 2], [0, 0, 0]]),
        ("complete_left_right", [[1, 1, 1], [2, 1, 2], [3, 0, 3]]),
        ("sort_rows", [[3, 0, 0], [0, 1, 1], [0, 1, 2]]),
        ("count_colours", [[1, 1, 1]]),
        ("left_half", [[0], [0], [3]]),
    ],
)
def test_steps_on_a_grid(step: str, expected: list[list[int]]) -> None:
    assert outcome("grid", step, GRID) == expected


def test_holes_are_filled_and_solid_blocks_hollowed() -> None:
    ring, block = [[5, 5, 5], [5, 0, 5], [5, 5, 5]], [[5, 5, 5], [5, 5, 5], [5, 5, 5]]
    assert outcome("grid", "fill_holes", ring) == block
    assert outcome("grid", "hollow", block) == ring
    assert outcome("grid", "crop", [[0, 0, 0], [0, 7, 0]]) == [[7]]
    assert outcome("grid", "crop", [[0, 0]]) is None
    assert outcome("grid", "scale_2", [[1, 2, 3, 4]]) is None


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("sort_down", [9, 4, 4, 1, 0]),
        ("rotate_left", [9, 4, 0, 1, 4]),
        ("and_back", [4, 9, 4, 0, 1, 1, 0, 4, 9, 4]),
        ("without_max", [4, 4, 0, 1]),
        ("unique", [4, 9, 0, 1]),
        ("singles", [9, 0, 1]),
        ("last_2", [0, 1]),
        ("every_other", [4, 4, 1]),
        ("odds", [9, 1]),
        ("sum", [18]),
        ("running_sum", [4, 13, 17, 17, 18]),
        ("minus_1", None),
        ("plus_place", [4, 10, 6, 3, 5]),
    ],
)
def test_steps_on_a_list(step: str, expected: list[int] | None) -> None:
    assert outcome("listfn", step, [4, 9, 4, 0, 1]) == expected


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_tasks_rule_solves_it_and_all_that_fits_its_examples_agrees(domain: str) -> None:
    own = DOMAINS[domain]
    tasks = own.draw(np.random.default_rng(3), 30, "test")
    for task, table in zip(tasks, own.build(tasks), strict=True):
        rule = own.index[task["rule"]]
        assert table.right[rule]
        assert own.says(table, rule) == task["test"]["output"]
        if task["train"]:
            assert table.right[table.passed.all(1)].all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_compositions_of_the_two_splits_are_apart(domain: str) -> None:
    own = DOMAINS[domain]

    def rules(split: str) -> set[str]:
        drawn = {task["rule"] for task in own.draw(np.random.default_rng(0), 60, split)}
        return {rule for rule in drawn if " > " in rule}

    assert not rules("validation") & rules("test")


def test_parts_depend_on_the_steps_alone() -> None:
    parts = [part_of(pair, 2) for pair in np.ndindex(30, 30)]
    assert parts == [part_of(pair, 2) for pair in np.ndindex(30, 30)]
    assert 0.4 < np.mean(parts) < 0.6
