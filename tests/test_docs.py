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
from collections.abc import Iterator
from pathlib import Path

import pytest
from metaloop import plugins
from metaloop.cli import app
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "core" / "README.md", *sorted(ROOT.glob("plugins/*/*/README.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
FOLLOWED = sorted(ROOT.glob("docs/how-to/*.md"))
PAGES = [*READMES, *sorted(set(ROOT.glob("docs/**/*.md")) - {TUTORIAL, *FOLLOWED})]
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


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Someone in an empty folder, who may install a plugin there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    yield monkeypatch
    forget("metaloop_waves")
    plugins.refresh()


@pytest.mark.parametrize("page", [pytest.param(TUTORIAL, marks=pytest.mark.slow), *FOLLOWED], ids=name_of)
def test_a_page_can_be_followed(page: Path, reader: pytest.MonkeyPatch) -> None:
    names = {"__name__": "page"}
    for block in BLOCK.finditer(page.read_text()):
        code = block["code"]
        if block["title"]:
            Path(block["title"]).write_text(code)
        elif block["kind"] == "python":
            exec(compile(code, page.name, "exec"), names)
        elif block["kind"] == "toml":
            assert code in Path("pyproject.toml").read_text()
        elif block["kind"] == "sh":
            for line in code.splitlines():
                do(shlex.split(line, comments=True), reader)
        else:
            pytest.fail(f"{page.name} shows {block['kind']!r} without a title: nothing runs it")


def do(words: list[str], reader: pytest.MonkeyPatch) -> None:
    """A command of a page, in this process but for pytest, which would meet itself."""
    match words:
        case ["metaloop", "verify", "mine", *_]:
            pass  # the plugin that the reader is about to write
        case ["metaloop", *rest]:
            forget("metaloop_waves")
            done = CliRunner().invoke(app, rest)
            assert done.exit_code == 0, f"{words}\n{done.output}"
        case ["cd", folder]:
            reader.chdir(folder)
        case ["pip", "install", "-e", _]:
            installed(Path.cwd(), Path("site").absolute(), reader)
        case ["pytest"]:
            path = os.pathsep.join(map(os.path.abspath, ("site", "src")))
            tested = run([sys.executable, "-m", "pytest"], Path.cwd(), PYTHONPATH=path)
            assert tested.returncode == 0, tested.stdout + tested.stderr
        case _:
            pytest.fail(f"nothing runs {words}")


def forget(package: str) -> None:
    """Import a package anew next time, as a new process does."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def installed(folder: Path, site: Path, reader: pytest.MonkeyPatch) -> None:
    """What `pip install -e` comes to, without the network that its build would need."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    ((group, points),) = project["entry-points"].items()
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in project["dependencies"])
    about = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
    (info / "METADATA").write_text(about)
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    reader.syspath_prepend(site)
    reader.syspath_prepend(folder / "src")
    plugins.refresh()
