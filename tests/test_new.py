"""A package that `metaloop new` wrote passes its own tests, untouched and away from this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from metaloop.scaffold import LAYERS, create


def install(folder: Path, site: Path) -> None:
    """What an editable install leaves, written by hand: `nox -s isolated -- new` installs for real."""
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir(parents=True)
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in about["dependencies"])
    metadata = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n{requires}"
    (info / "METADATA").write_text(metadata)
    ((name, target),) = about["entry-points"]["metaloop.plugins"].items()
    (info / "entry_points.txt").write_text(f"[metaloop.plugins]\n{name} = {target}\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_new_package_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    folder = create(f"fresh-{kind}", kind, tmp_path)
    install(folder, tmp_path / "site")
    path = os.pathsep.join([str(folder / "src"), str(tmp_path / "site")])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "METALOOP_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
