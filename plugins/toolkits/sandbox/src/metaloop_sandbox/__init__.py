"""A sandbox for code that nobody has read.

Names are imported when first used, so that finding the plugin loads no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaloop_sandbox.answer import Answer as Answer
    from metaloop_sandbox.answer import Json as Json
    from metaloop_sandbox.answer import Reason as Reason
    from metaloop_sandbox.mechanism import Mechanism as Mechanism
    from metaloop_sandbox.mechanisms import Protection as Protection
    from metaloop_sandbox.program import Program as Program
    from metaloop_sandbox.sandbox import Sandbox as Sandbox
    from metaloop_sandbox.sandbox import run as run

_HOMES = {
    "Answer": "answer",
    "Json": "answer",
    "Reason": "answer",
    "Mechanism": "mechanism",
    "Protection": "mechanisms",
    "Program": "program",
    "Sandbox": "sandbox",
    "run": "sandbox",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
