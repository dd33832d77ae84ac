"""Everything the docs show runs: Python blocks as they stand, `metaloop` command lines at least as far as composing.

How-to pages and the tutorial are followed as a reader would: files are written, commands run, in the page's order.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from metaloop.cli import app
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "core" / "README.md", *sorted(ROOT.glob("plugins/*/*/README.md"))]
FOLLOWED = sorted(ROOT.glob("docs/how-to/*.md"))
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [*READMES, *sorted(set(ROOT.glob("docs/**/*.md")) - {*FOLLOWED, TUTORIAL})]
BLOCK = re.compile(
    r"^(?P<fence>`{3,})(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^(?P=fence)$", re.M | re.S
)


def blocks(page: Path, language: str) -> list[str]:
    return [found["code"] for found in BLOCK.finditer(page.read_text()) if found["kind"] == language]


def run(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"METALOOP_RUNS": str(folder / "runs"), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"} | more
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
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


@pytest.mark.parametrize("page", FOLLOWED, ids=name_of)
def test_a_how_to_page_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "page"}
    for block in BLOCK.finditer(page.read_text()):
        if block["title"]:
            Path(block["title"]).write_text(block["code"])
        elif block["kind"] == "python":
            exec(compile(block["code"], page.name, "exec"), names)
        elif block["kind"] == "sh":
            for line in block["code"].splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["metaloop"] and words[1:3] != ["verify", "mine"]:  # the reader's own plugin
                    done = CliRunner().invoke(app, words[1:])
                    assert done.exit_code == 0, f"{line}\n{done.output}"
        else:
            pytest.fail(f"{page.name} shows {block['kind']!r} without a title: nothing runs it")


def installed(folder: Path, site: Path) -> None:
    """What `pip install -e` leaves behind, without the network that its build would need."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    (points,) = project["entry-points"].items()
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in project["dependencies"])
    about = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
    (info / "METADATA").write_text(about)
    lines = "".join(f"{name} = {target}\n" for name, target in points[1].items())
    (info / "entry_points.txt").write_text(f"[{points[0]}]\n{lines}")


@pytest.mark.slow
def test_the_tutorial_can_be_followed(tmp_path: Path) -> None:
    folder, site = tmp_path, tmp_path / "site"
    for block in BLOCK.finditer(TUTORIAL.read_text()):
        path = os.pathsep.join([str(site), str(tmp_path / "metaloop-waves" / "src")])
        commands: list[list[str]] = []
        if block["title"]:
            assert (folder / block["title"]).is_file(), f"{block['title']} is nothing that metaloop new wrote"
            (folder / block["title"]).write_text(block["code"])
        elif block["kind"] == "python":
            commands = [[sys.executable, "-c", block["code"]]]
        elif block["kind"] == "toml":
            assert block["code"] in (folder / "pyproject.toml").read_text()
        else:
            for words in map(shlex.split, block["code"].splitlines()):
                if words[0] == "cd":
                    commands, folder = [*_done(commands, folder, path)], folder / words[1]
                elif words[:2] == ["pip", "install"]:
                    installed(folder, site)
                else:
                    commands.append([sys.executable, "-m", *words])
        _done(commands, folder, path)


def _done(commands: list[list[str]], folder: Path, path: str) -> list[list[str]]:
    """Run the commands; none is left."""
    for command in commands:
        done = run(command, folder, PYTHONPATH=path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return []
