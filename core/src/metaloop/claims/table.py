"""A report as a table: for the terminal, and as the Markdown that the docs show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaloop.claims.model import ClaimResult, VerifyReport

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"holds": "green", "fails": "bold red", "inconclusive": "yellow", "broke": "bold magenta"}
_HEADER = ("Claim", "Where", "Paper", "Judged", "Ours [95% CI]", "n", "Method", "Verdict")


def render(report: VerifyReport) -> Table:
    """The results as a rich table."""
    from rich.table import Table
    from rich.text import Text

    # Text, not str: an interval's square brackets are not markup.
    table = Table("Claim", "Where", "Paper", "Ours (95% CI)", "n", "Verdict", caption=Text(_provenance(report)))
    for result in report.results:
        verdict = Text(result.verdict, style=_STYLES[result.verdict])
        verdict.append(f"\n{result.reason}", style="dim")
        table.add_row(
            Text.assemble((result.id, "bold"), f" {result.statement}"),
            Text(result.where),
            Text(result.paper_value),
            Text(measured(result)),
            Text(f"{result.n} {result.unit}s"),
            verdict,
        )
    return table


def markdown(report: VerifyReport) -> str:
    """The results as a Markdown table, with the hardware, versions, date and command below it."""
    rows = [_HEADER, ("---",) * len(_HEADER)]
    for result in report.results:
        verdict = f"**{result.verdict}**"
        if result.verdict != "holds":
            verdict += f": {result.reason}"
        statement = f"{result.id}: {result.statement}" + (f" ({result.note})" if result.note else "")
        n = f"{result.n} {result.unit}s"
        row = (statement, result.where, result.paper_value, result.relation, measured(result), n, result.method)
        rows.append((*(_cell(text) for text in row), _cell(verdict)))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{_provenance(report)}\n"


def measured(result: ClaimResult) -> str:
    """The estimate and its interval, for example `"1.003 [0.998, 1.008]"`."""
    if result.estimate is None or result.low is None or result.high is None:
        return "-"
    if result.low == result.high:
        return f"{result.estimate:.4g}"
    return f"{result.estimate:.4g} [{result.low:.4g}, {result.high:.4g}]"


def _provenance(report: VerifyReport) -> str:
    kind = "full" if report.full else "plain"
    if report.broken:
        kind += ", treatments broken on purpose"
    seeds = {seed for result in report.results for seed in result.seeds}
    hardware = ", ".join(f"{name} {value}" for name, value in report.hardware.items())
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    minutes = sum(result.seconds for result in report.results) / 60
    return (
        f"Measured on {report.date:%Y-%m-%d} by `{report.command}` ({kind}, seeds {min(seeds)} to {max(seeds)}, "
        f"{minutes:.1f} minutes). Hardware: {hardware}. Versions: {versions}."
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
