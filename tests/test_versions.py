"""A plugin that was built for this minor version of the core, beside the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from metaloop.scaffold import create

from .test_new import install

MAJOR, MINOR = (int(number) for number in version("metaloop").split(".")[:2])
NEXT = f"{MAJOR}.{MINOR + 1}.0"
TRY = """
import json, sys
from metaloop import plugins
from metaloop.errors import PluginError
record = plugins.get_plugin("older")
found = [record.status, record.error, "metaloop_older.plugin" in sys.modules]
try:
    job, owner = plugins.job("older")
    experiment = plugins.load(job.target, owner)("cpu").but(steps=1, task_batch=2, eval_tasks=0, device="cpu")
    found.append(experiment.advance(experiment.begin()).step)
except PluginError as error:
    found.append(str(error))
print(json.dumps(found))
"""


def beside_the_next_core(folder: Path, requirement: str | None) -> list[Any]:
    """Status, error, whether its SPEC was imported, and what came of a step of its job."""
    package = create("older", "learner", folder)
    if requirement is not None:
        declared = package / "pyproject.toml"
        bound = f"metaloop>={MAJOR}.{MINOR},<{MAJOR}.{MINOR + 1}"
        assert bound in declared.read_text()
        declared.write_text(declared.read_text().replace(bound, requirement))
    site = folder / "site"
    install(package, site)
    core = site / f"metaloop-{NEXT}.dist-info"
    core.mkdir()
    (core / "METADATA").write_text(f"Metadata-Version: 2.1\nName: metaloop\nVersion: {NEXT}\n")
    (core / "entry_points.txt").write_text("[metaloop.plugins]\ncore = metaloop.builtin:SPEC\n")
    path = os.pathsep.join([str(site), str(package / "src")])
    env = os.environ | {"PYTHONPATH": path, "METALOOP_PLUGINS": "core,older", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TRY], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_one_that_bounds_its_core_is_refused_by_the_next_minor_version_and_not_imported(tmp_path: Path) -> None:
    status, error, imported, refused = beside_the_next_core(tmp_path, None)
    assert (status, imported) == ("incompatible", False)
    assert error == f"it needs metaloop>={MAJOR}.{MINOR},<{MAJOR}.{MINOR + 1}, this is metaloop {NEXT}"
    assert refused == f"'older' can't be used: plugin 'older' (metaloop-older 0.1.0) is incompatible: {error}."


@pytest.mark.parametrize("requirement", ["metaloop", f"metaloop>={MAJOR}.{MINOR}"])
def test_one_that_does_not_works_with_it(requirement: str, tmp_path: Path) -> None:
    assert beside_the_next_core(tmp_path, requirement) == ["ok", None, True, 1]
