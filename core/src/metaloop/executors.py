"""Where independent pieces of work run."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import Field

from metaloop.component import Component
from metaloop.errors import RunError

T = TypeVar("T")

_AHEAD = 4
"""Items handed over per worker: enough to keep it busy, few enough to be held in memory."""


class Executor(Component):
    """Spreads independent items of work: object tasks, seeds of a sweep, claims."""

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        """Apply `fn` to each item; yields (position, result) as results finish.

        `fn` and the items must be picklable where workers are other processes (between our own processes only).

        Raises:
            RunError: an item failed, with its position and traceback as the cause.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement map")

    def share(self, value: T) -> Callable[[], T]:
        """A value for many items of one `map`, as something that items hold and `fn` calls to get it.

        Here it travels with every item. An executor that keeps values near its workers sends it once.
        """
        return functools.partial(_same, value)


def _same(value: T) -> T:
    return value


class InProcess(Executor):
    """One after the other, in this process."""

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Apply `fn` in order."""
        for position, item in enumerate(items):
            try:
                result = fn(item)
            except Exception as error:
                raise _failed(position, error) from error
            yield position, result


class ProcessPool(Executor):
    """Worker processes on this machine, one thread each."""

    workers: int = Field(default=2, ge=1, description="number of worker processes")

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Apply `fn` in the workers; results as they finish."""
        pool = _pool(self.workers).executor
        shared = _packed(fn)
        left, waiting = enumerate(items), dict[Future[bytes], int]()

        def submit(n: int) -> None:
            for position, item in itertools.islice(left, n):
                waiting[pool.submit(_work, shared, _packed(item))] = position

        try:
            submit(_AHEAD * self.workers)
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                submit(len(done))
                for future in done:
                    position = waiting.pop(future)
                    try:
                        told = future.result()
                    except BrokenProcessPool as error:
                        _pools.pop(self.workers, None)
                        raise RunError(f"a worker process died while item {position} was in work") from error
                    yield position, told_result(position, told)
        finally:
            if not all([future.cancel() or future.done() for future in waiting]):  # cancel every one, then look
                _stop(self.workers)


def _failed(position: int, error: Exception) -> RunError:
    return RunError(f"item {position} failed: {type(error).__name__}: {error}")


def _packed(what: Any) -> bytes:
    """Pickled here, and not by the pool's queues: they pass a tensor as an open file, of which there are few."""
    try:
        return pickle.dumps(what)
    except Exception as error:
        raise RunError(f"work for other processes must be picklable: {error}") from error


@functools.lru_cache(maxsize=1)
def _unpacked(shared: bytes) -> Callable[[Any], Any]:
    """The function of the `map` that a worker is busy with, and what is bound to it (a theta)."""
    fn: Callable[[Any], Any] = pickle.loads(shared)
    return fn


def _work(shared: bytes, packed: bytes) -> bytes:
    """In a worker of a pool."""
    if _ending is not None and _ending.is_set():
        raise RunError("the pool is ending")  # to nobody: a worker is handed an item ahead, which can't be taken back
    return tell(lambda: _unpacked(shared)(pickle.loads(packed)), pickle.dumps)


def tell(work: Callable[[], Any], pack: Callable[[Any], bytes]) -> bytes:
    """In any executor's worker: the result and None, or None and why there is none; for `told_result`."""
    try:
        return pack((work(), None))
    except (Exception, SystemExit) as error:
        failure = RuntimeError("SystemExit") if isinstance(error, SystemExit) else error
        failure.add_note(traceback.format_exc())
        try:
            told = pack((None, failure))
            pickle.loads(told)  # an exception with arguments of its own may be refused only here
            return told
        except Exception:
            return pack((None, RuntimeError(f"{type(error).__name__}: {error}")))


def told_result(position: int, told: bytes) -> Any:
    """What a worker told of an item; raises `RunError` where it failed."""
    result, failure = pickle.loads(told)
    if failure is not None:
        raise _failed(position, failure) from failure
    return result


class _Pool(NamedTuple):
    executor: ProcessPoolExecutor
    ending: Event
    """Set when workers must not begin anything more."""


_pools: dict[int, _Pool] = {}
_ending: Event | None = None
"""In a worker: its pool's."""


def _pool(workers: int) -> _Pool:
    """A pool per size, kept for the process: starting workers costs seconds (each imports torch)."""
    if workers not in _pools:
        spawn = multiprocessing.get_context("spawn")
        ending = spawn.Event()
        executor = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_worker, initargs=(ending,))
        _pools[workers] = _Pool(executor, ending)
    return _pools[workers]


def _stop(workers: int) -> None:
    """Ask the workers of a pool to end; an experiment that runs in one saves a checkpoint first."""
    pool = _pools.pop(workers, None)
    if pool is not None:
        processes = list((pool.executor._processes or {}).values())  # there is no public way before Python 3.14
        pool.ending.set()
        pool.executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


_is_worker = False


def in_worker() -> bool:
    """Whether this process is some executor's worker: Ctrl-C and what is printed are for the parent."""
    return _is_worker


def become_worker() -> None:
    """Called by any executor in its workers, before the first item: one thread each."""
    import torch

    global _is_worker
    _is_worker = True
    torch.set_num_threads(1)


def _begin_worker(ending: Event) -> None:
    global _ending
    _ending = ending
    become_worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no worker behind where the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


if TYPE_CHECKING:
    AnyExecutor = Executor
else:
    AnyExecutor = Executor
