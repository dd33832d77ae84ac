"""What metaloop asks of every plugin and family, and what these tasks promise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from metaloop import Key, testing
from metaloop_template.tasks import TemplateTasks


@testing.parametrize("template", TemplateTasks.example(), TemplateTasks(shots=1, queries=2))
def test_conforms(check: Callable[[], None]) -> None:
    check()


def test_three_clean_points_determine_a_parabola() -> None:
    tasks = TemplateTasks(shots=3, queries=5).sample({}, 8, Key.of(0)).tasks
    tasks = type(tasks)(*(part.double() for part in tasks))
    coefficients = torch.linalg.solve(tasks.support_x ** torch.arange(3), tasks.support_y)
    torch.testing.assert_close(tasks.query_x ** torch.arange(3) @ coefficients, tasks.query_y, rtol=0, atol=1e-2)


def test_noise_is_on_support_targets_only() -> None:
    clean, noisy = (TemplateTasks(noise=noise).sample({}, 500, Key.of(0)).tasks for noise in (0.0, 0.3))
    torch.testing.assert_close(clean.query_y, noisy.query_y)
    assert abs(float((noisy.support_y - clean.support_y).std()) - 0.3) < 0.02
