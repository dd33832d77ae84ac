"""How long `metaloop list` and `metaloop info` take, beside `import torch`: each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from common import arguments, compare, report


def fresh(*command: str) -> Callable[[], object]:
    """Run a command in a fresh interpreter, output dropped."""
    return lambda: subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Interleave the three."""
    given = arguments(__doc__ or "")
    torch = ("import torch", fresh("-c", "import torch"))
    rows = [
        compare(
            "start-up", (f"metaloop {' '.join(words)}", fresh("-m", "metaloop", *words)), torch, rounds=given.rounds
        )
        for words in (("list",), ("info", "icl-gd"))
    ]
    report("Start-up, fresh interpreters", rows, {}, given)


if __name__ == "__main__":
    main()
