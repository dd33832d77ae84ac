"""A small plugin called `lab`, installed as pip would leave it: seen by this process and by fresh interpreters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from metaloop import plugins
from metaloop.testing import toys

DECLARATION = """
from metaloop.manifest import Command, Job, Paper, Part, Plugin

def _part(name, kind, target, summary=""):
    return Part(f"lab/{{name}}", kind, target, summary)

SPEC = Plugin(
    "lab",
    "small things to try the command line with",
    components=(
        {parts}
        _part("table", "stage", "metaloop_lab.heavy:Table", "the closing table"),
        _part("faulty", "stage", "metaloop_lab.heavy:Faulty"),
        _part("reader", "stage", "metaloop_lab.heavy:Reader"),
    ),
    jobs=(
        Job("lab", "metaloop_lab.heavy:main", "descent on bowls"),
        Job("lab/pipeline", "metaloop_lab.heavy:pipeline", "descent and a table", profiles=("cpu",)),
        Job("lab/faulty", "metaloop_lab.heavy:faulty"),
        Job("lab/reader", "metaloop_lab.heavy:reader"),
        Job("lab/slow", "metaloop_lab.heavy:slow"),
        Job("lab/wrong", "metaloop_lab.heavy:wrong"),
    ),
    paper=Paper("A Paper", "A. Author", 2020, "Venue", "arXiv:2000.00000", family="toy papers"),
    claims="metaloop_lab.claims:CLAIMS",
    commands=(
        Command("wave", "metaloop_lab.heavy:wave", "wave a hand"),
        Command("vanish", "metaloop_lab.gone:vanish"),
        Command("list", "metaloop_lab.heavy:wave", "never reached: the core's own name"),
    ),
)
"""
HEAVY = """
from metaloop import Experiment, Pipeline, Stage
from metaloop.errors import DataError
from metaloop.testing.toys import Descent, Quadratics
from rich.table import Table as RichTable

class Table(Stage):
    digits: int = 3
    def run(self, context):
        loss = context.results["train"].summary["loss"]
        table = RichTable("the closing table")
        table.add_row(f"{loss:.{self.digits}f}")
        context.show(table)
        context.artifact("loss.txt", lambda path: path.write_text(str(loss)))
        return {"loss": loss}

class Faulty(Stage):
    def run(self, context):
        raise ZeroDivisionError("no\\nluck")

class Reader(Stage):
    file: str = "rows.csv"
    def run(self, context):
        raise DataError(f"{self.file}: column 'age' has text in row 3")

def main(profile):
    steps = 6 if profile == "cpu" else 60
    return Experiment(name="lab", tasks=Quadratics(), learner=Descent(), steps=steps, task_batch=3)

def pipeline(profile):
    return Pipeline(name="lab-pipeline", stages={"train": main(profile), "table": Table()})

def faulty(profile):
    return Pipeline(name="lab-faulty", stages={"train": main(profile), "faulty": Faulty()})

def reader(profile):
    return Pipeline(name="lab-reader", stages={"reader": Reader()})

def slow(profile):
    return main(profile).but(steps=10**7, checkpoint_every=10**6)

def wrong(profile):
    return 3

def wave(hands: int = 1):
    print("wave " * hands)
"""
CLAIMS = """
from metaloop.claims import Claim, Greater, Less, Sample

def _values(setting):
    setting.progress("measuring", 0.5)
    low, high = (3.0, 3.0) if setting.broken else (1.0, 2.0)
    return Sample(treatment=[low + seed % 5 / 10 for seed in setting.seeds], baseline=[high] * len(setting.seeds))

def _fault(setting):
    raise RuntimeError("no data")

CLAIMS = (
    Claim("C1", "it is less", "Fig. 1", "about half", _values, Less(0.1)),
    Claim("C2", "it is greater", "Fig. 2", "about double", _values, Greater(0.1)),
    Claim("C3", "it breaks", "Fig. 3", "-", _fault, Less(0.1)),
)
"""


@pytest.fixture(scope="session")
def lab_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the import path that holds the plugin and its metadata."""
    site = tmp_path_factory.mktemp("site")
    package, info = site / "metaloop_lab", site / "metaloop_lab-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    parts = "".join(
        f"_part({cls.__name__.lower()!r}, {kind!r}, '{cls.__module__}:{cls.__name__}'),\n        "
        for kind, classes in (("tasks", toys.FAMILIES), ("learner", toys.LEARNERS))
        for cls in classes
    )
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(DECLARATION.format(parts=parts))
    (package / "heavy.py").write_text(HEAVY)
    (package / "claims.py").write_text(CLAIMS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metaloop-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[metaloop.plugins]\nlab = metaloop_lab.plugin:SPEC\n")
    return site


@pytest.fixture
def lab(lab_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugin is installed, and runs are kept in the folder that is given; it does not exist yet."""
    monkeypatch.syspath_prepend(str(lab_site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(lab_site), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METALOOP_PLUGINS", "core,lab")
    monkeypatch.setattr(os, "fsync", lambda file: None)  # half of a small run's time; no power is cut here
    plugins.refresh()
    yield tmp_path / "runs"
    monkeypatch.undo()
    plugins.refresh()
