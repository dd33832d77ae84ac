"""Where trackers send runs: one variable, which every tracker's plugin heeds; imports nothing."""

from __future__ import annotations

import os

VARIABLE = "METALOOP_TRACKING_URI"
"""The environment variable behind `--tracking-uri`; worker processes inherit it."""
OFF = "off"


def tracking_uri() -> str | None:
    """The server or store that the user named, `"off"` for no tracking, or None: the tracker's own default."""
    return os.environ.get(VARIABLE) or None
