"""What a change can touch, and what must be said before a release: on a small workspace of its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


def tool(name: str) -> ModuleType:
    """A module of `tools`, which is no package."""
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TOOLS))


workspace, release_check = tool("workspace"), tool("release_check")
PROJECT = """[project]
name = "{name}"
version = "0.1.0"
dependencies = [{needs}]
[project.optional-dependencies]
test = [{test}]
"""


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True, capture_output=True
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The core, a toolkit, a paper on it, and one that needs the toolkit for its tests alone."""
    packages = {
        "core": ("metaloop", "'torch'", ""),
        "plugins/toolkits/kit": ("metaloop-kit", "'metaloop>=0.1'", ""),
        "plugins/papers/one": ("metaloop-one", "'metaloop', 'metaloop_kit[fast]>=0.1'", ""),
        "plugins/papers/two": ("metaloop-two", "'metaloop'", "'pytest', 'metaloop-kit'"),
        "plugins/papers/three": ("metaloop-three", "'metaloop'", ""),
    }
    for folder, (name, needs, test) in packages.items():
        for part in ("src", "tests"):
            (tmp_path / folder / part).mkdir(parents=True)
        (tmp_path / folder / "pyproject.toml").write_text(PROJECT.format(name=name, needs=needs, test=test))
        (tmp_path / folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n\n- First version.\n")
        (tmp_path / folder / "src" / "code.py").write_text("")
        (tmp_path / folder / "tests" / "test_it.py").write_text("")
    (tmp_path / "tests").mkdir()
    for name in ("cross", "docs", "kill"):
        (tmp_path / "tests" / f"test_{name}.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


CORE, KIT, ONE, TWO, THREE = (
    "core/tests",
    *(f"plugins/{n}/tests" for n in ("toolkits/kit", "papers/one", "papers/two", "papers/three")),
)
CROSS, DOCS, KILL = (f"tests/test_{name}.py" for name in ("cross", "docs", "kill"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], []),
        (["LICENSE"], []),
        (["docs/a.md"], [DOCS]),
        (["plugins/papers/three/src/code.py"], [THREE, CROSS, DOCS]),
        (["plugins/toolkits/kit/src/code.py"], [KIT, ONE, TWO, CROSS, DOCS]),
        (["core/src/code.py"], [CORE, KIT, ONE, THREE, TWO, CROSS, DOCS, KILL]),
        (["conftest.py"], [CORE, KIT, ONE, THREE, TWO, CROSS, DOCS, KILL]),
        (["tests/test_kill.py"], [KILL]),
    ],
)
def test_a_change_touches_a_package_and_those_that_stand_on_it(
    root: Path, files: list[str], expected: list[str]
) -> None:
    assert workspace.touched_tests(files, root) == expected


def test_changed_files_are_those_of_commits_and_new_and_uncommitted_ones(root: Path) -> None:
    (root / "core/src/code.py").write_text("1")
    git(root, "commit", "-qam", "second")
    (root / "core/CHANGELOG.md").write_text("")
    (root / "new.md").write_text("")
    assert sorted(workspace.changed_files("HEAD", root)) == ["core/CHANGELOG.md", "new.md"]
    assert "core/src/code.py" in workspace.changed_files("HEAD~1", root)


def test_what_a_package_needs_to_be_installed_has_the_extras_asked_for(root: Path) -> None:
    among = workspace.packages(root)
    among["metaloop-kit"].project["optional-dependencies"]["fast"] = ["numpy"]
    assert workspace.closure("metaloop-one", among) == {
        "metaloop-one": set(),
        "metaloop": set(),
        "metaloop-kit": {"fast"},
    }
    assert "metaloop-kit" not in workspace.closure("metaloop-two", among)
    assert "metaloop-kit" in workspace.closure("metaloop-two", among, ["test"])


def test_a_changed_package_needs_a_new_version_and_a_line_about_it(root: Path) -> None:
    folder = root / "plugins/papers/one"

    def fault() -> str | None:
        found: str | None = release_check.fault(workspace.Package.at(folder), None, root)
        return found

    assert fault() is None  # never released
    git(root, "tag", "metaloop-one-v0.1.0")
    assert fault() is None
    (folder / "tests/test_it.py").write_text("1")
    assert fault() is None  # tests are not shipped
    (folder / "src/code.py").write_text("1")
    assert "raise it and say why" in str(fault())
    (folder / "pyproject.toml").write_text((folder / "pyproject.toml").read_text().replace("0.1.0", "0.1.1"))
    assert fault() == "CHANGELOG.md has no line under '## 0.1.1'"
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.1\n\n- Faster.\n\n## 0.1.0\n\n- First version.\n")
    assert fault() is None
