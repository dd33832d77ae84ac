"""The packages of this workspace, which of them need which, and what a change can touch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LAYERS = ("core", "plugins/toolkits", "plugins/integrations", "plugins/papers")
"""In the order in which packages stand on each other."""
EVERYWHERE = re.compile(r"(pyproject\.toml|conftest\.py|noxfile\.py|tools/.*\.py)")
"""Files that every test depends on."""
ROOT_TESTS = {"tests/test_kill.py", "tests/test_peers.py", "tests/test_new.py"}
"""Those that need no more than the core and the basics; the others in `tests` are about all packages."""


@dataclass(frozen=True)
class Package:
    """One distribution."""

    folder: Path
    """Where its pyproject.toml is."""
    project: Mapping[str, Any]

    @classmethod
    def at(cls, folder: Path) -> Package:
        """The package in a folder."""
        return cls(folder, tomllib.loads((folder / "pyproject.toml").read_text())["project"])

    @property
    def name(self) -> str:
        """The distribution."""
        return str(canonicalize_name(self.project["name"]))

    @property
    def slug(self) -> str:
        """What people call it: the plugin's name, or `core`."""
        return "core" if self.name == "metaloop" else self.name.removeprefix("metaloop-")

    @property
    def module(self) -> str:
        """What it is imported as."""
        return self.name.replace("-", "_")

    def requirements(self, extras: Iterable[str] = ()) -> list[Requirement]:
        """What it asks for, with these extras of its own."""
        wanted = list(self.project.get("dependencies", ()))
        for extra in extras:
            wanted += self.project.get("optional-dependencies", {})[extra]
        return [Requirement(text) for text in wanted]

    def needs(self) -> set[str]:
        """Distributions that it, its tests or its extras ask for."""
        everything = self.requirements(self.project.get("optional-dependencies", ()))
        return {str(canonicalize_name(requirement.name)) for requirement in everything} - {self.name}


def packages(root: Path = ROOT) -> dict[str, Package]:
    """All packages by distribution, those that others stand on first."""
    folders = [folder for layer in LAYERS for folder in (root / layer, *sorted((root / layer).glob("*")))]
    found = [Package.at(folder) for folder in folders if (folder / "pyproject.toml").is_file()]
    return {package.name: package for package in found}


def closure(name: str, among: Mapping[str, Package], extras: Iterable[str] = ()) -> dict[str, set[str]]:
    """The workspace's packages that one needs to be installed, itself included, each with the extras asked for."""
    found: dict[str, set[str]] = {}
    waiting = [(name, frozenset(extras))]
    while waiting:
        package, asked = waiting.pop()
        if package in found and asked <= found[package]:
            continue
        found.setdefault(package, set()).update(asked)
        for requirement in among[package].requirements(asked):
            other = str(canonicalize_name(requirement.name))
            if other in among:
                waiting.append((other, frozenset(requirement.extras)))
    return found


def with_dependents(names: Iterable[str], among: Mapping[str, Package]) -> set[str]:
    """These packages and all that need one of them, however far."""
    found = set(names)
    while more := {name for name, package in among.items() if name not in found and package.needs() & found}:
        found |= more
    return found


def touched_tests(files: Iterable[str], root: Path = ROOT) -> list[str]:
    """The tests that changed files (relative to the root) can touch, in a sensible order."""
    files, among = list(files), packages(root)
    root_tests = {str(path.relative_to(root)) for path in root.glob("tests/test_*.py")}
    if any(EVERYWHERE.fullmatch(file) for file in files):
        return [*_test_folders(among.values(), root), *sorted(root_tests)]
    owners = {
        name
        for name, package in among.items()
        if any(file.startswith(f"{package.folder.relative_to(root)}/") for file in files)
    }
    touched = with_dependents(owners, among)
    chosen = root_tests & set(files)
    if any(file.endswith(".md") or file.startswith(("docs/", "mkdocs.yml")) for file in files):
        chosen |= {"tests/test_docs.py", "tests/test_site.py"}
    if touched:
        chosen |= root_tests - ROOT_TESTS
    if touched & {"metaloop", "metaloop-basics"}:
        chosen |= root_tests
    return [*_test_folders((p for name, p in among.items() if name in touched), root), *sorted(chosen & root_tests)]


def _test_folders(of: Iterable[Package], root: Path) -> list[str]:
    folders = [package.folder / "tests" for package in of]
    return [str(folder.relative_to(root)) for folder in folders if any(folder.glob("test_*.py"))]


def changed_files(base: str, root: Path = ROOT) -> list[str]:
    """Files that differ from a commit, uncommitted and new ones included."""
    return [*git("diff", "--name-only", base, root=root), *git("ls-files", "--others", "--exclude-standard", root=root)]


def git(*words: str, root: Path = ROOT) -> list[str]:
    """The lines that git prints."""
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    print("\n".join(touched_tests(changed_files(sys.argv[1] if len(sys.argv) > 1 else "HEAD"))))
