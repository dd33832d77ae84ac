"""Every package alone: from wheels, in an environment of its own, with no more than it says it needs.

`python tools/isolate.py [SLUG...]`: first without extras (`metaloop info`, a dry step of its main job), then with its
`test` extra (every module imports, its tests pass, away from this repository). `new` is what `metaloop new` writes.
`--lowest` takes the oldest versions that packages say they support, `--pip` plain pip instead of uv, `--no-tests` stops
before the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from workspace import ROOT, Package, closure, packages

WORK = ROOT / "build" / "isolated"
AWAY = Path(tempfile.gettempdir())
QUIET = {"METALOOP_TRACKING_URI": "off", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
JOBS = """
import json, sys
from metaloop import plugins
plugin = plugins.get_plugin(sys.argv[1]).plugin
assert plugin is not None, plugins.get_plugin(sys.argv[1]).error
job = next((job for job in plugin.jobs if job.dry), None)
print(json.dumps(job and [job.id, [[path, value] for path, value in job.dry]]))
"""
IMPORTS = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(package.__path__, f"{sys.argv[1]}."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""


@dataclass(frozen=True)
class Way:
    """How packages are installed."""

    pip: bool = False
    lowest: bool = False

    def venv(self, place: Path) -> Path:
        """A fresh environment; its Python."""
        shutil.rmtree(place, ignore_errors=True)
        call(
            [sys.executable, "-m", "venv", str(place)]
            if self.pip
            else ["uv", "venv", "-q", "-p", sys.executable, str(place)]
        )
        return place / "bin" / "python"

    def install(self, python: Path, package: Package, among: dict[str, Package], extras: Iterable[str] = ()) -> None:
        """The package's wheel, the wheels of those that it needs, and from the registry what they ask for."""
        needed = closure(package.name, among, extras)
        wheels = [
            _wheel(among[name]) + (f"[{','.join(sorted(asked))}]" if asked else "") for name, asked in needed.items()
        ]
        if self.pip:
            call([str(python), "-m", "pip", "install", "--quiet", *wheels, "--constraint", str(_pins())])
            return
        lines = [*wheels, *(_outside(needed, among) if self.lowest else ())]
        requirements = WORK / f"{package.slug}.txt"
        requirements.write_text("\n".join(lines))
        how = ["--resolution", "lowest-direct"] if self.lowest else ["--constraint", str(_pins())]
        call(["uv", "pip", "install", "-q", "--python", str(python), "-r", str(requirements), *how])


def alone(package: Package, among: dict[str, Package], way: Way, *, tests: bool) -> None:
    """Install it and use it; raises CalledProcessError at the first thing that fails."""
    place = WORK / package.slug
    python = way.venv(place / "venv")
    way.install(python, package, among)
    metaloop, environment = [str(python), "-m", "metaloop"], {"METALOOP_RUNS": str(place / "runs")}
    call([*metaloop, "info", package.slug], environment)
    job = json.loads(
        subprocess.check_output([str(python), "-c", JOBS, package.slug], text=True, env=os.environ | QUIET)
    )
    if job is not None:
        settings = [word for path, value in job[1] for word in ("--set", f"{path}={json.dumps(value)}")]
        call([*metaloop, "run", job[0], "--profile", "gpu", "--device", "cpu", "--quiet", *settings], environment)
    way.install(
        python, package, among, [extra for extra in ("test",) if extra in package.project["optional-dependencies"]]
    )
    call([str(python), "-c", IMPORTS, package.module], environment)
    if tests:
        call([str(python), "-m", "pytest", "-q"], environment, _away(package, place / "away"))


def _away(package: Package, place: Path) -> Path:
    """The package without its source, with the settings that tests have here: what is imported is the wheel."""
    shutil.rmtree(place, ignore_errors=True)
    ignored = shutil.ignore_patterns("src", "__pycache__", "runs", "pyproject.toml")
    shutil.copytree(package.folder, place, ignore=ignored)
    shutil.copy(ROOT / "conftest.py", place)
    options = "--import-mode=importlib -p no:cacheprovider"
    marks = "slow: takes more than 10 s\n    timeout: of pytest-timeout"
    (place / "pytest.ini").write_text(f"[pytest]\naddopts = {options}\ntestpaths = tests\nmarkers =\n    {marks}\n")
    return place


def call(words: list[str], environment: dict[str, str] | None = None, folder: Path = AWAY) -> None:
    """Run a command where no pyproject.toml of ours is above: uv would take the pins from it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH", "METALOOP_PLUGINS")
    }
    subprocess.run(words, check=True, cwd=folder, env=kept | QUIET | (environment or {}))


def _wheel(package: Package) -> str:
    (found,) = (WORK / "dist").glob(f"{package.module}-*.whl")
    return str(found)


def _pins() -> Path:
    """The versions that this workspace is tested with."""
    path = WORK / "pins.txt"
    path.write_text(
        "\n".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"])
    )
    return path


def _outside(needed: dict[str, set[str]], among: dict[str, Package]) -> list[str]:
    """What these packages ask for from others, as requirements of our own: only such are resolved to the lowest."""
    wanted = (r for name, asked in needed.items() for r in among[name].requirements(asked))
    return sorted({str(r) for r in wanted if canonicalize_name(r.name) not in among})


def _new_packages(among: dict[str, Package]) -> list[Package]:
    """What `metaloop new` writes, one of each kind, among the others."""
    from metaloop.scaffold import LAYERS, create

    place = WORK / "new"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    made = [Package.at(create(f"fresh-{kind}", kind, place)) for kind in LAYERS]
    among.update({package.name: package for package in made})
    return made


def _chosen(slugs: list[str], among: dict[str, Package]) -> list[Package]:
    by_slug = {package.slug: package for package in among.values()}
    if unknown := [slug for slug in slugs if slug not in by_slug and slug != "new"]:
        sys.exit(f"no package is called {unknown[0]!r}; there are new, {', '.join(by_slug)}")
    new = _new_packages(among) if "new" in slugs or not slugs else []
    return [*(by_slug[slug] for slug in slugs if slug != "new"), *([] if slugs else by_slug.values()), *new]


def main(words: list[str]) -> int:
    """Each package in turn; says which failed."""
    parser = argparse.ArgumentParser("nox -s isolated --", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    for name in ("--lowest", "--pip", "--no-tests"):
        parser.add_argument(name, action="store_true")
    given = parser.parse_args(words)
    WORK.mkdir(parents=True, exist_ok=True)
    among = packages()
    chosen = _chosen(given.slugs, among)
    shutil.rmtree(WORK / "dist", ignore_errors=True)
    for package in {name: among[name] for chose in chosen for name in closure(chose.name, among, ["test"])}.values():
        call(["uv", "build", "-q", "--wheel", str(package.folder), "--out-dir", str(WORK / "dist")])
    failed = {}
    for package in chosen:
        print(f"== {package.slug}", flush=True)
        try:
            alone(package, among, Way(given.pip, given.lowest), tests=not given.no_tests)
        except subprocess.CalledProcessError as error:
            failed[package.slug] = " ".join(map(str, error.cmd))[:200]
    for slug, what in failed.items():
        print(f"{slug} does not work alone: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
