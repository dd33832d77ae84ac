"""What runs in Ray's workers, and what travels to them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import ray
from metaloop import plugins
from metaloop.errors import RunError
from metaloop.executors import become_worker, in_worker, tell
from ray import ObjectRef, cloudpickle

T = TypeVar("T")

VARIABLES = ("METALOOP_", "MLFLOW_")
"""Environment variables that begin so follow the driver's, whenever they change."""
_KEPT = 4
"""Shared values that a worker keeps unpacked, the least recently used going first."""


class Surroundings(NamedTuple):
    """Where the driver is, and what it may import: workers follow as far as they see the same folders."""

    variables: dict[str, str]
    path: tuple[str, ...]
    folder: str

    @classmethod
    def here(cls) -> Surroundings:
        """This process's."""
        path = tuple(entry for entry in sys.path if entry)
        return cls(_variables(), path, os.getcwd())

    def enter(self) -> None:
        """Make them this worker's."""
        if not in_worker():
            with _undisturbed():
                become_worker()
                _hear_interrupts()
        before = _variables(), len(sys.path)
        for name in before[0].keys() - self.variables.keys():
            del os.environ[name]
        os.environ.update(self.variables)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path += [entry for entry in self.path if entry not in sys.path and Path(entry).exists()]
        if before != (_variables(), len(sys.path)):
            plugins.refresh()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An item may be called off while its worker imports torch, which can't be imported a second time: later, then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _hear_interrupts() -> None:
    """Ray's cancel sets a flag that a main thread waiting in the kernel does not see: wake it by a signal."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGURG"):
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGURG, lambda number, frame: None)
    threading.Thread(target=_wake, args=(heard, threading.get_ident()), daemon=True).start()


def _wake(heard: int, thread: int) -> None:
    while numbers := os.read(heard, 64):
        if signal.SIGINT in numbers:
            signal.pthread_kill(thread, signal.SIGURG)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


def packed(what: Any) -> bytes:
    """Pickled with what is defined in the driver's own script; raises `RunError` where that can't be."""
    try:
        found: bytes = cloudpickle.dumps(what)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise RunError(f"work for other processes must be picklable: {error}") from error
    return found


def put(data: bytes, surroundings: Surroundings | None = None) -> ObjectRef[Any]:
    """Into the object store, from where a node's workers read it without a copy."""
    return ray.put((np.frombuffer(data, np.uint8), surroundings))


@dataclass(frozen=True)
class Shared(Generic[T]):
    """A value in the object store; calling it in a worker gives the value."""

    reference: ObjectRef[Any]

    def __call__(self) -> T:
        """The value, fetched and unpacked when this worker first needs it."""
        key = self.reference.hex()
        if key not in _kept:
            data, surroundings = ray.get(self.reference)
            if surroundings is not None:
                surroundings.enter()
            while len(_kept) >= _KEPT:
                _kept.popitem(last=False)
            _kept[key] = cloudpickle.loads(data)
        _kept.move_to_end(key)
        value: T = _kept[key]
        return value


_kept: OrderedDict[str, Any] = OrderedDict()


def work(fn: Shared[Callable[[Any], Any]], item: bytes) -> bytes:
    """One item in a worker: what `metaloop.executors.told_result` takes."""

    return tell(lambda: fn()(cloudpickle.loads(item)), cloudpickle.dumps)
