"""What an agent answered, read as data, and whether it is right. Nothing is evaluated."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

LONGEST = 5000
"""Texts that are longer are no answers."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read(answer: Any) -> Any:
    """An answer as numbers, texts and lists: JSON or Python literals where it is text; None where it is neither."""
    if not isinstance(answer, str):
        return _plain(answer)
    text = answer.strip()
    if not text or len(text) > LONGEST:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return _plain(parse(text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    found = _NUMBER.findall(text.replace(",", ""))
    return _plain(float(found[0])) if len(set(found)) == 1 else text


def right(answer: Any, expected: Any) -> bool:
    """Whether an answer is the expected value; a list of one number is not that number."""
    value = read(answer)
    return value is not None and value == _plain(expected)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else None
