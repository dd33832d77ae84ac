"""A lock that is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from metaloop import disk


@contextmanager
def held(path: Path, patient: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock file; while another process does, *patient* is called: it waits, and says whether to go on waiting.

    Raises:
        InUseError: the patience came to an end.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(disk.lock(path))
                break
            except disk.InUseError:
                if not patient():
                    raise
        yield
