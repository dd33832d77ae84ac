"""Everything the docs show runs: Python blocks as they stand, `metaloop` command lines at least as far as composing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("plugins/*/*/README.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"METALOOP_RUNS": str(folder / "runs"), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(page, "python")))
    done = run([sys.executable, str(script)], tmp_path)
    assert done.returncode == 0, done.stderr


def command_lines() -> list[tuple[Path, str]]:
    """The `metaloop` commands that sh blocks show, comments cut off."""
    shown = re.compile(r"^(?:uv run )?(metaloop (?:run|info|list)\b[^#\n]*)", re.M)
    return [(page, line.strip()) for page in PAGES for code in blocks(page, "sh") for line in shown.findall(code)]


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda v: v if isinstance(v, str) else v.parent.name)
def test_command_lines_compose(page: Path, line: str, tmp_path: Path) -> None:
    words = shlex.split(line)[1:]
    files = [word for word in words if word.endswith((".yaml", ".csv", ".parquet"))]
    if files:
        pytest.skip(f"needs the reader's own file {files[0]}")
    done = run([sys.executable, "-m", "metaloop", *words, *(["--dry"] if words[0] == "run" else [])], tmp_path)
    assert done.returncode == 0, done.stderr
