"""Where runs are tracked: a server, or a database file and an artifact folder beside the runs; imports no MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from metaloop.tracking import OFF, tracking_uri

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
_SQLITE = "sqlite:///"

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own settings, where the user made none: it calls nobody, prints nothing, and notices dead servers."""


class Address(NamedTuple):
    """An MLflow store."""

    uri: str
    artifacts: Path | None
    """Where artifacts of new experiments go; None: where the server says."""

    @property
    def is_server(self) -> bool:
        """Whether it is somewhere else, behind a server."""
        return self.artifacts is None

    @property
    def database(self) -> Path | None:
        """The file of an SQLite store."""
        return Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None

    @property
    def shown(self) -> str:
        """The URI without user and password: for messages and files."""
        parts = urlsplit(self.uri)
        host = parts.netloc.rpartition("@")[2]
        return self.uri if host == parts.netloc else parts._replace(netloc=host).geturl()


def address(root: Path) -> Address | None:
    """Where runs that are kept in the folder *root* are tracked; None: nowhere."""
    asked = tracking_uri() or os.environ.get("MLFLOW_TRACKING_URI")
    if asked == OFF:
        return None
    beside = root.absolute().parent
    if asked is None:
        return Address(f"{_SQLITE}{beside / DATABASE}", beside / ARTIFACTS)
    if asked.startswith(_SQLITE):
        path = Path(asked.removeprefix(_SQLITE)).absolute()
        return Address(f"{_SQLITE}{path}", path.parent / ARTIFACTS)
    is_database = asked.partition("+")[0].partition(":")[0] in ("postgresql", "mysql", "mssql")
    return Address(asked, beside / ARTIFACTS if is_database else None)


def prepare() -> None:
    """Set MLflow's settings; before it is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
