"""What the pages show of an installed plugin: its manifest, its README, its claims and what was recorded for them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import metadata
from pathlib import Path

from metaloop import plugins
from metaloop.claims import Claim, ClaimResult, VerifyReport, load_record
from metaloop.claims.records import JSON_NAME
from metaloop.claims.table import measured
from metaloop.manifest import Paper
from metaloop.plugins import PluginRecord

NOT_RECORDED = "not recorded yet"
SIGNS = {"holds": "✓", "fails": "✗", "broke": "✗", "inconclusive": "?", NOT_RECORDED: "–"}
IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)\)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CITATION = re.compile(r"\*[^*]+\*\s\([^)]*\)\sfor\s(metaloop|\[metaloop\]\([^)]*\))\.\n\n")
_DOI = re.compile(r"(?:doi:)?(10\.\d{4,}/\S+)", re.I)


@dataclass(frozen=True)
class Row:
    """One claim as a table shows it."""

    id: str
    statement: str
    where: str
    paper_value: str
    relation: str
    note: str
    verdict: str = NOT_RECORDED
    reason: str = ""
    ours: str = ""
    n: str = ""

    @property
    def sign(self) -> str:
        """The verdict as one character."""
        return SIGNS[self.verdict]

    @property
    def css(self) -> str:
        """The verdict as a CSS class."""
        return "none" if self.verdict == NOT_RECORDED else self.verdict


@dataclass(frozen=True)
class Entry:
    """One plugin."""

    record: PluginRecord

    @property
    def name(self) -> str:
        """The plugin's name, which is the name of its page."""
        return self.record.name

    @property
    def paper(self) -> Paper | None:
        """The paper, where it is a paper's."""
        return self.record.plugin.paper if self.record.plugin else None

    @property
    def title(self) -> str:
        """The page's title."""
        return self.paper.title if self.paper else self.record.distribution or self.name

    @property
    def link(self) -> str:
        """Where the paper can be read; empty where its identifier does not say."""
        identifier = self.paper.identifier if self.paper else ""
        if found := _ARXIV.fullmatch(identifier):
            return f"https://arxiv.org/abs/{found[1]}"
        if found := _DOI.fullmatch(identifier):
            return f"https://doi.org/{found[1]}"
        return identifier if identifier.startswith("https://") else ""

    @cached_property
    def folder(self) -> Path | None:
        """The plugin's source, where it is installed from a folder: pictures and records lie there."""
        return plugins.source_folder(self.record)

    @cached_property
    def readme(self) -> str:
        """Its README, from the source or else from the package's metadata."""
        if self.folder and (path := self.folder / "README.md").is_file():
            return path.read_text(encoding="utf-8")
        return str(metadata(self.record.distribution).json.get("description", ""))

    @property
    def intro(self) -> str:
        """What the README says before its first section, without its heading and a line that only names the paper."""
        text = re.split(r"^## ", self.readme, maxsplit=1, flags=re.M)[0].partition("\n")[2].strip()
        return _CITATION.sub("", text) if self.paper else text

    @property
    def sections(self) -> str:
        """The README's sections."""
        return self.readme[found.start() :] if (found := re.search(r"^## ", self.readme, re.M)) else ""

    @property
    def pictures(self) -> list[tuple[str, Path]]:
        """Alternative text and file of every picture in the README, in order."""
        if self.folder is None:
            return []
        found = ((image["alt"], (self.folder / image["path"]).resolve()) for image in IMAGE.finditer(self.readme))
        return [(alt, path) for alt, path in found if path.is_file()]

    @cached_property
    def report(self) -> VerifyReport | None:
        """The recorded verify, where there is one."""
        return load_record(self.folder) if self.folder and (self.folder / JSON_NAME).is_file() else None

    @cached_property
    def rows(self) -> list[Row]:
        """Every claim that the plugin makes, with what was recorded for it as it stands."""
        if self.record.plugin is None or self.record.plugin.claims is None:
            return []
        claims = plugins.load(self.record.plugin.claims, self.record)
        assert isinstance(claims, tuple)
        recorded = {result.id: result for result in self.report.results} if self.report else {}
        return [_row(claim, recorded.get(claim.id)) for claim in claims]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, the good first."""
        counted = Counter(row.verdict for row in self.rows)
        return {verdict: counted[verdict] for verdict in SIGNS if counted[verdict]}

    @property
    def share(self) -> float:
        """The share of claims that hold; -1 where there is no record, so that those sort last."""
        return self.counts.get("holds", 0) / len(self.rows) if self.report and self.rows else -1.0

    @property
    def provenance(self) -> dict[str, str]:
        """When, on what and how the claims were measured."""
        report = self.report
        if report is None:
            return {}
        seeds = {seed for result in report.results for seed in result.seeds}
        minutes = sum(result.seconds for result in report.results) / 60
        return {
            "Date": f"{report.date:%Y-%m-%d}",
            "Hardware": ", ".join(f"{name} {value}" for name, value in report.hardware.items()),
            "Seeds": f"{min(seeds)} to {max(seeds)}",
            "Time": f"{minutes:.0f} minutes",
            "Versions": ", ".join(f"{name} {value}" for name, value in report.versions.items()),
        }


def entries() -> list[Entry]:
    """Every plugin in the environment, papers by family, then by year."""
    found = [Entry(record) for record in plugins.discover() if record.status != "blocked"]
    return sorted(found, key=lambda entry: (entry.paper.family or "~", entry.paper.year) if entry.paper else ("", 0))


def _row(claim: Claim, result: ClaimResult | None) -> Row:
    """A claim beside its result, unless it was recorded under another relation or margin."""
    relation = claim.relation.describe()
    said = (claim.id, claim.statement, claim.where, claim.paper_value, relation, claim.note)
    if result is None or result.relation != relation:
        return Row(*said)
    reason = "" if result.verdict == "holds" else result.reason
    return Row(*said, result.verdict, reason, measured(result), f"{result.n} {result.unit}s")
