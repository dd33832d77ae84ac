"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metaloop.ranks import here

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 120  # columns where there is no terminal to ask


def console(*, stderr: bool = False) -> Console:
    """A console on standard output (or error) as it is now; without colours where there is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    asked = os.environ.get("COLUMNS", "")  # without a terminal often the narrow one of whoever called
    width = None if stream.isatty() else max(_WIDE, int(asked) if asked.isdecimal() else 0)
    return Console(stderr=stderr, highlight=False, width=width)


def table(*columns: str, title: str | None = None, caption: str | None = None) -> Table:
    """An empty table in the style of all tables; cells may be text or rich `Text`, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title) if title else None,
        caption=Text(caption) if caption else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
    )
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    return made


def row(to: Table, *cells: object, style: str | None = None) -> None:
    """Add a row; what is not rich already is printed as it is, square brackets too."""
    from rich.text import Text

    to.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells), style=style)


def say(message: str, label: str = "", style: str = "") -> None:
    """One line on standard error; of torchrun's ranks only the first one speaks."""
    from rich.text import Text

    if not here().leads:
        return
    text = Text.assemble((f"{label}: ", style), message) if label else Text(message, style)
    console(stderr=True).print(text, soft_wrap=True)


def warn_in_one_line() -> None:
    """Print each warning of this process once, as one line on standard error."""
    seen: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if (text := " ".join(str(message).split())) not in seen:
            seen.add(text)
            say(text, "warning", "yellow")

    warnings.showwarning = show


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, default=str) + "\n")


def number(value: object) -> str:
    """A value for a table: four digits of a fraction, all of a whole number."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def quantity(name: str, value: object) -> str:
    """A value of a summary, by its name: a duration, a size or a number."""
    if isinstance(value, int | float) and name.endswith("seconds"):
        return duration(value)
    if isinstance(value, int | float) and name.endswith("bytes"):
        return size(value)
    return number(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: `"1.5 s"`, `"3 min 20 s"`, `"2 h 5 min"`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(amount: float) -> str:
    """Bytes as people say them: `"1.2 MB"`."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def count(n: int, what: str) -> str:
    """So many of something: `"1 run"`, `"2 runs"`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _finite(value: Any) -> Any:
    """The value with NaN and infinities as text, which JSON has no numbers for."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
