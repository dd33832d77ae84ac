"""How long `metaloop list` takes with 60 more plugins installed, one of them broken, beside `import torch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import arguments, compare, report

PLUGINS = 60
SPEC = """from metaloop.manifest import Job, Paper, Part, Plugin

SPEC = Plugin(
    "{name}",
    "a plugin to measure with",
    paper=Paper("A title", "Some authors", 2026, "A venue", "arXiv:0000.00000"),
    components=tuple(Part(f"{name}/part-{{i}}", "learner", f"{module}.parts:Part{{i}}", "a part") for i in range(8)),
    jobs=(Job("{name}", "{module}.jobs:main", "the main job"), Job("{name}/other", "{module}.jobs:other")),
    claims="{module}.claims:CLAIMS",
)
"""
METADATA = """Metadata-Version: 2.1
Name: metaloop-{name}
Version: 1.0.0
Requires-Dist: metaloop>=0.1
Requires-Dist: numpy>=1.26
Requires-Dist: pydantic>=2.11
Requires-Dist: torch>=2.11
"""


def install(site: Path, name: str, *, broken: bool) -> None:
    """Write a package and its metadata, as pip would leave them."""
    module = f"metaloop_{name.replace('-', '_')}"
    package, info = site / module, site / f"{module}-1.0.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(SPEC.format(name=name, module=module) + ("import gone\n" if broken else ""))
    (info / "METADATA").write_text(METADATA.format(name=name))
    (info / "entry_points.txt").write_text(f"[metaloop.plugins]\n{name} = {module}.plugin:SPEC\n")


def fresh(site: Path, *command: str) -> Callable[[], str]:
    """Run a command in a fresh interpreter that sees the site; what it prints."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    return lambda: (
        subprocess.run(
            [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout
    )


def main() -> None:
    """Interleave the two, after a look that all plugins are listed, the broken one as broken."""
    given = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        for number in range(PLUGINS):
            install(site, f"many-{number:02}", broken=number == PLUGINS // 2)
        listed = json.loads(fresh(site, "-m", "metaloop", "list", "--json")())
        statuses = [record["status"] for record in listed if record["plugin"].startswith("many-")]
        assert sorted(statuses) == ["broken"] + ["ok"] * (PLUGINS - 1), statuses
        ways = (
            ("metaloop list", fresh(site, "-m", "metaloop", "list")),
            ("import torch", fresh(site, "-c", "import torch")),
        )
        row = compare(f"{PLUGINS} more plugins", *ways, rounds=given.rounds)
    report(f"Start-up with {PLUGINS} more plugins, one of them broken", [row], {}, given)


if __name__ == "__main__":
    main()
