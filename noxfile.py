"""Checks, run in the workspace's own environment: `uv run nox -s tests`."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"  # `uv run` has made the environment
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
SOURCES = ["core/src", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/*/*/src"))]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@nox.session
def tests(session: nox.Session) -> None:
    """Every test of every package, in parallel, long ones first; arguments go to pytest."""
    _pytest(session, *session.posargs)


@nox.session
def changed(session: nox.Session) -> None:
    """The tests that a change can touch: of what is not committed, or since a commit: `nox -s changed -- main`."""
    found = session.run("python", "tools/workspace.py", *session.posargs, silent=True)
    if not isinstance(found, str) or not (paths := found.split()):
        session.skip("no test can tell the difference")
    _pytest(session, *paths)


@nox.session
def lint(session: nox.Session) -> None:
    """Style."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """`mypy --strict` on every package."""
    session.run("mypy", *SOURCES, "tools")
    session.run("mypy", "docs/hooks", env={"MYPYPATH": "docs/hooks"})


@nox.session
def docs(session: nox.Session) -> None:
    """The docs site, in `site/`; a warning is an error. To write with: `uv run mkdocs serve`."""
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside peers, one benchmark at a time; names pick some: `nox -s bench -- meta_gradient`."""
    for script in sorted(ROOT.glob("tests/benchmarks/bench_*.py")):
        if not session.posargs or any(name in script.stem for name in session.posargs):
            session.run("python", str(script), env=ONE_THREAD)


@nox.session
def cross(session: nox.Session) -> None:
    """Compositions of all that is installed (`-- --full`: every one); writes docs/matrix.md and build/matrix.json."""
    where = ("--page", "docs/matrix.md", "--json", "build/matrix.json")
    session.run("python", "-m", "metaloop.testing.matrix", *where, *session.posargs, env=ONE_THREAD)


@nox.session
def isolated(session: nox.Session) -> None:
    """Each package alone, from wheels: `nox -s isolated -- [SLUG...] [--lowest] [--pip] [--no-tests]`."""
    session.run("python", "tools/isolate.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """A wheel of every package, in `dist/`."""
    session.run("uv", "build", "--all-packages", "--wheel", "--out-dir", "dist", external=True)


@nox.session(name="release-check")
def release_check(session: nox.Session) -> None:
    """A package that changed since its tag (or a commit: `-- main`) has a new version and a line in its changelog."""
    session.run("python", "tools/release_check.py", *session.posargs)


@nox.session
def pin(session: nox.Session) -> None:
    """Rewrite the exact versions in the root's `[tool.uv] constraint-dependencies` to the newest that resolve."""
    path = ROOT / "pyproject.toml"
    before = path.read_text()
    try:
        path.write_text(_with_constraints(before, []))
        export = ["uv", "export", "--quiet", "--upgrade", "--all-groups", "--all-extras", "--no-hashes"]
        lines = subprocess.run(
            [*export, "--no-emit-workspace", "--no-annotate", "--no-header"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        pins = sorted({line.strip() for line in lines if "==" in line and not line.startswith(("-e", "."))})
        path.write_text(_with_constraints(before, pins))
    except BaseException:
        path.write_text(before)
        raise
    session.log(f"{len(pins)} versions pinned; run `uv run nox -s tests`")


def _pytest(session: nox.Session, *words: str) -> None:
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "worksteal", *words, env=ONE_THREAD)


def _with_constraints(text: str, pins: list[str]) -> str:
    items = "".join(f"    {json.dumps(pin)},\n" for pin in pins)
    block = f"constraint-dependencies = [\n{items}]" if pins else "constraint-dependencies = []"
    return re.sub(
        r"constraint-dependencies = \[.*?^\]|constraint-dependencies = \[\]", lambda _: block, text, flags=re.M | re.S
    )
