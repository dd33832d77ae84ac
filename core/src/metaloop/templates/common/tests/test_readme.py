"""What the README shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path))
    monkeypatch.setenv("METALOOP_TRACKING_URI", "off")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S))
    assert code
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
