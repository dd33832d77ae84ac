"""`metaloop new`: what it writes, and what it refuses to."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from metaloop import scaffold

from .test_cli import call

pytestmark = pytest.mark.usefixtures("lab")


@pytest.mark.parametrize("kind", scaffold.LAYERS)
def test_a_package_of_each_kind_carries_its_own_name_everywhere(kind: str, tmp_path: Path) -> None:
    result = call("new", "my-2nd", "--kind", kind, "--into", tmp_path)
    assert f"cd {tmp_path / 'metaloop-my-2nd'}" in result.stdout
    (folder,) = tmp_path.iterdir()
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert "template" not in f"{path}\n{path.read_text()}".lower(), path
        if path.suffix == ".py":
            ast.parse(path.read_text())
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert (about["name"], about["version"]) == ("metaloop-my-2nd", "0.1.0")
    assert about["entry-points"]["metaloop.plugins"] == {"my-2nd": "metaloop_my_2nd.plugin:SPEC"}
    assert any(requirement.startswith("metaloop>=") for requirement in about["dependencies"])
    there = {str(path.relative_to(folder)) for path in files}
    assert {"README.md", "CHANGELOG.md", "tests/test_my_2nd.py", "src/metaloop_my_2nd/plugin.py"} <= there


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("My_Tasks", "tasks", "small letters, digits and single hyphens"),
        ("2nd", "tasks", "small letters"),
        ("../up", "tasks", "small letters"),
        ("lab", "tasks", "taken by plugin 'lab'"),
        ("basics", "learner", "is reserved"),
        ("mine", "optimizer", "tasks, learner, meta-optimizer, paper"),
        ("there", "paper", "exists already"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(name: str, kind: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "metaloop-there").mkdir()
    result = call("new", name, "--kind", kind, "--into", tmp_path, code=2)
    assert why in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["metaloop-there"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = call("new", "mine", "--kind", "tasks", "--into", tmp_path / "gone", code=2)
    assert "is not a folder" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
