"""The errors that metaloop raises on purpose.

A `UserError` is a mistake that its reader can mend: one clear sentence, exit code 2 on the command line.
"""

from __future__ import annotations


class MetaloopError(Exception):
    """Base of everything that metaloop raises on purpose."""


class UserError(MetaloopError):
    """The user asked for something that can't be done; the message says what to do. Exit code 2."""


class Incompatible(UserError):  # noqa: N818 (reads as what it is: "raise Incompatible")
    """A composition that can't work, with the reason; raised when an experiment is built, before any compute."""


class UnknownName(UserError):  # noqa: N818
    """No plugin, component, job, run or field of that name; the message suggests the nearest."""


class PluginError(UserError):
    """A plugin that is needed is broken, missing, clashing or made for another API version."""


class DataError(UserError):
    """A user's file or data set that can't be used, and why (which column, which row)."""


class RunError(MetaloopError):
    """A run broke: a NaN loss, a task that fails. Exit code 1; the last good checkpoint is kept."""


class DivergedError(RunError):
    """The loss or theta stopped being finite."""

    def __init__(self, step: int, what: str, checkpoint: str | None) -> None:
        kept = f"the checkpoint at {checkpoint} is kept" if checkpoint else "no checkpoint was written yet"
        super().__init__(f"{what} is not finite at step {step}; {kept}. A smaller learning rate or clipping may help.")
        self.step = step


class CorruptCheckpoint(MetaloopError):  # noqa: N818
    """A checkpoint whose hash, skeleton or tensors do not agree."""
