"""One local cluster for all tests of a module, and a log that workers write to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from metaloop_ray.executor import RayExecutor

sys.path.insert(0, str(Path(__file__).parent))  # for ray_parts, here and (as sys.path travels) in workers


@pytest.fixture(scope="session")
def executor() -> Iterator[RayExecutor]:
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    yield RayExecutor(workers=2)
    ray.shutdown()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("METALOOP_TEST_LOG", str(path))
    return path
