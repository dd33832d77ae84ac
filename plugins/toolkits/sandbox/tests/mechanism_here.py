"""The mechanisms that can be tested here."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from metaloop_sandbox.mechanism import Mechanism
from metaloop_sandbox.mechanisms import Protection, probe


def need(mechanism: Mechanism) -> None:
    """Skip the test, with the reason, where the mechanism does not work."""
    found = probe(mechanism)
    if isinstance(found, Protection):
        return
    if mechanism == "bubblewrap" and (os.environ.get("METALOOP_REQUIRE_BWRAP") or shutil.which("bwrap")):
        bare = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--unshare-net", "true"]
        if shutil.which("bwrap") is None or subprocess.run(bare, capture_output=True).returncode == 0:
            pytest.fail(
                f"bubblewrap: {found}"
            )  # required and missing; or it works here, but not as the sandbox uses it
    pytest.skip(f"{mechanism} does not work here: {found}")
