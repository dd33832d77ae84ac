"""Whether every package that changed since its release has a new version and says in its changelog what is new.

`python tools/release_check.py [BASE]`: BASE is a commit; without one, each package is compared with its newest tag
`<distribution>-v<version>`, and one that was never tagged need only have a line for its version.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.version import Version
from workspace import ROOT, Package, git, packages


def fault(package: Package, base: str | None, root: Path = ROOT) -> str | None:
    """Why a package can't be released as it is, or None."""
    version = Version(package.project["version"])
    noted = _notes(package.folder / "CHANGELOG.md", str(version))
    if not noted:
        return f"CHANGELOG.md has no line under '## {version}'"
    base = base or _newest_tag(package, root)
    if base is None:
        return None
    folder = str(package.folder.relative_to(root))
    shipped = [f"{folder}/src", f"{folder}/pyproject.toml", f"{folder}/README.md"]
    changed = git("diff", "--name-only", base, "--", *shipped, root=root)
    before = _version_at(base, folder, root)
    if changed and before is not None and version <= before:
        return f"{len(changed)} files changed since {base}, and the version is still {version}: raise it and say why"
    return None


def _notes(changelog: Path, version: str) -> list[str]:
    """The changelog's lines for a version."""
    text = changelog.read_text() if changelog.is_file() else ""
    section = re.search(rf"^## {re.escape(version)}\b.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return [line for line in (section[1] if section else "").splitlines() if line.startswith("- ")]


def _newest_tag(package: Package, root: Path) -> str | None:
    tags = git("tag", "--list", f"{package.name}-v*", "--merged", "HEAD", root=root)
    return max(tags, key=lambda tag: Version(tag.removeprefix(f"{package.name}-v")), default=None)


def _version_at(base: str, folder: str, root: Path) -> Version | None:
    """The version that the package had; None where it was not there."""
    try:
        text = "\n".join(git("show", f"{base}:{folder}/pyproject.toml", root=root))
    except subprocess.CalledProcessError:
        return None
    return Version(tomllib.loads(text)["project"]["version"])


def main(words: list[str]) -> int:
    """Say what is wrong with which package."""
    base = words[0] if words else None
    found = {package.name: fault(package, base) for package in packages().values()}
    for name, why in found.items():
        print(f"{name}: {why or 'ready'}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
