"""Keep a report beside the plugin that it is about."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from metaloop import disk
from metaloop.claims.model import VerifyReport
from metaloop.claims.table import markdown
from metaloop.errors import DataError, UserError

JSON_NAME = "claims.json"
MARKDOWN_NAME = "claims.md"


def record(report: VerifyReport, folder: Path | str) -> Path:
    """Write `claims.json` and `claims.md` into the folder; returns the Markdown file's path.

    Each file is replaced at once or not at all. Raises `UserError` where the folder can't be written, or the report is
    not what a record is: every claim, with treatments as they are.
    """
    if report.broken:
        raise UserError("a report whose treatments were broken on purpose is a test of the claims and is not recorded")
    if report.partial:
        raise UserError("a record covers every claim: verify without naming claims to record")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        disk.replace(folder / JSON_NAME, f"{report.to_json()}\n".encode())
        disk.replace(folder / MARKDOWN_NAME, markdown(report).encode())
    except OSError as error:
        raise UserError(f"the claims can't be recorded in {str(folder)!r}: {error.strerror or error}") from error
    return folder / MARKDOWN_NAME


def load_record(folder: Path | str) -> VerifyReport:
    """The report that `record` wrote into the folder; raises `DataError` where there is none or it can't be read."""
    path = Path(folder) / JSON_NAME
    try:
        return VerifyReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"no record of claims can be read at {str(path)!r}: {error.strerror or error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        at = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise DataError(f"{str(path)!r} is not a record of claims: {at}: {problem['msg']}") from error
