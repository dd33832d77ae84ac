"""YAML as run files use it: plain values only, numbers such as `1e-3` as numbers, lists of numbers on one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from metaloop.errors import UserError

# YAML 1.1, which PyYAML reads, takes 1e-3 for a text; YAML 1.2 and everyone else for a number.
_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Safe dumping without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def list(self, data: list[Any]) -> yaml.Node:
        plain = not any(isinstance(item, dict | list) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


for _class in (_Loader, _Dumper):  # both, so that a text that looks like such a number is written in quotes
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Dumper.add_representer(list, _Dumper.list)


def load(text: str, what: str) -> Any:
    """The plain values that a YAML text holds.

    Raises:
        UserError: it is not YAML; the sentence begins with `what` and names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}" if mark and "\n" in text.strip() else ""
        raise UserError(f"{what}{place} can't be read as YAML: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{what} can't be read as YAML: {' '.join(str(error).split())}.") from error


def dump(document: Mapping[str, Any]) -> str:
    """A document as YAML, in its own order."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
