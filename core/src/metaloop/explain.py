"""What pydantic found wrong, as one sentence: which field, what it must be, what it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from metaloop.errors import UserError

_TYPES = {"bool", "bytes", "dict", "float", "int", "is-instance", "list", "none", "str", "tuple"}  # of unions' members
_MUST = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
}
_WIDTH = 80


@contextmanager
def explained(where: str = "") -> Iterator[None]:
    """Turn a `ValidationError` inside the block into a `UserError` of one sentence.

    Args:
        where: the path of what is validated, to go before the field's name.
    """
    try:
        yield
    except ValidationError as error:
        raise UserError(sentence(error, where)) from error


def sentence(error: ValidationError, where: str = "") -> str:
    """The first field that is wrong, as a sentence: `"learner.lr must be greater than 0, got -0.1."`."""
    problems = [(_place(where, problem["loc"]), problem) for problem in error.errors(include_url=False)]
    place, first = problems[0]
    if first["type"] == "extra_forbidden":
        return f"There is no field {place}."
    if first["type"] == "missing":
        return f"{place} is missing, and it has no default."
    if first["type"] in ("value_error", "assertion_error"):
        return f"{f'{place}: ' if place else ''}{str(first['ctx']['error']).rstrip('.')}."
    # A field that may be several things reports one problem for each.
    wanted = dict.fromkeys(_wanted(problem) for other, problem in problems if other == place)
    return f"{place or 'It'} must be {' or '.join(wanted)}, got {_shown(first['input'])}."


def _wanted(problem: Any) -> str:
    """What was expected, to follow "must be"."""
    if problem["type"] in _MUST:
        return _MUST[problem["type"]]
    if problem["type"] == "string_pattern_mismatch":
        return f"text like {problem['ctx']['pattern']}"
    if problem["type"] in ("model_type", "model_attributes_type", "is_instance_of"):
        return f"a {problem['ctx'].get('class_name') or problem['ctx'].get('class')}"
    text: str = problem["msg"].removeprefix("Input should be ")
    return text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def _place(where: str, loc: tuple[str | int, ...]) -> str:
    """The path of a field, without pydantic's own names for the members of a union."""
    own = [part for part in loc if isinstance(part, str) and (part in _TYPES or re.search(r"[\[\]-]", part))]
    return ".".join(filter(None, [where, *(str(part) for part in loc if part not in own)]))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 4]} ..."
