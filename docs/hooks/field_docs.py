"""Griffe extension: a pydantic field's description is its documentation, its default its value."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class FieldDocs(griffe.Extension):
    """Read `name: type = Field(default, description=...)` as a documented attribute."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Take what a call of `Field` says."""
        call = attr.value
        if not (isinstance(call, griffe.ExprCall) and str(call.function) == "Field"):
            return
        named = {value.name: value.value for value in call.arguments if isinstance(value, griffe.ExprKeyword)}
        plain = [value for value in call.arguments if not isinstance(value, griffe.ExprKeyword)]
        if "description" in named and attr.docstring is None:
            attr.docstring = griffe.Docstring(ast.literal_eval(str(named["description"])), parent=attr)
        attr.value = plain[0] if plain else named.get("default")
