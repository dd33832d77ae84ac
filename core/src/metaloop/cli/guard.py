"""Exit codes: what a command raises becomes one sentence on standard error and a number.

0: done. 1: a claim fails or a run broke. 2: the user's mistake. 130: Ctrl-C; a checkpoint is kept.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import ParamSpec

import typer

from metaloop.cli import output
from metaloop.errors import MetaloopError, UserError
from metaloop.plugins import reason
from metaloop.ranks import here

P = ParamSpec("P")

BROKE = 1
MISTAKE = 2
INTERRUPTED = 130

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Broke(MetaloopError):  # noqa: N818
    """Something broke that is not the user's mistake; the message says what, and where to read more."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, and what to tell about it."""


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """A command that ends with an exit code and one sentence instead of a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            output.warn_in_one_line()
            ranks = here()
            with ranks.together(), nullcontext() if ranks.leads else _without_output():
                command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKE) from None
        except (Exception, KeyboardInterrupt) as error:
            code, message = verdict(error)
            if kwargs.get("traceback") and here().leads:
                sys.stderr.write("".join(traceback.format_exception(error)))
            if code == INTERRUPTED:
                output.say(message)
            else:
                output.say(message, "error", "bold red")
            raise typer.Exit(code) from None

    return run


@contextmanager
def _without_output() -> Iterator[None]:
    """Of torchrun's ranks only the first one prints."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def verdict(error: BaseException) -> tuple[int, str]:
    """The exit code for an exception, and the sentence."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, str(error) or "Interrupted."
    if isinstance(error, UserError):
        return MISTAKE, _sentence(error)
    if isinstance(error, MetaloopError):
        return BROKE, _sentence(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return MISTAKE, f"The disk is full{_at(error)}: free some space."
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return MISTAKE, f"This can't be read or written{_at(error)}: {error.strerror}."
    return BROKE, f"{reason(error)}. That is a fault in the code, not in the command; --traceback shows where."


def _sentence(error: MetaloopError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?", "!", ")")) else f"{text}."


def _at(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""
