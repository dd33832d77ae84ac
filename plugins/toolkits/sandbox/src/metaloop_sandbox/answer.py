"""What a call to a sandboxed program comes back with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = Any
"""None, bool, int, finite float, str, or lists and string-keyed dicts of them."""

Reason = Literal["ok", "raised", "cpu", "wall", "memory", "output", "budget", "protocol", "died"]
"""How a call ended.

`raised`, `memory` (a MemoryError) and `budget` (it let the refusal of a call beyond the budget through) leave the
program running; after any other than these and `ok` it has been killed. `cpu`, `wall` and `output` are limits of the
sandbox; `output` is also that of the scratch folder. `protocol`: what came over the pipe was no answer. `died`: the
process is gone, or was gone before.
"""


@dataclass(frozen=True)
class Answer:
    """The outcome of one call. Nothing in it can be trusted further than the code that gave it."""

    value: Json | None
    """What the function returned; None unless `reason` is `ok`."""
    error: str | None
    """What went wrong, a traceback where the code raised, cut to a few thousand characters; None if `ok`."""
    reason: Reason
    calls: int
    """How many calls to the parent's functions were served."""
    seconds: float
    """Wall clock, less the time that the parent's functions took."""

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return self.reason == "ok"
