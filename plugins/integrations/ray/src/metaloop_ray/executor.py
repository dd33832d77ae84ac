"""Items of work as tasks of a Ray cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from metaloop.errors import RunError
from metaloop.executors import Executor, told_result
from metaloop.plugins import reason
from pydantic import Field

from metaloop_ray import cluster  # before ray: it sets Ray's environment
from metaloop_ray.worker import Shared, Surroundings, packed, put, work

import ray  # isort: skip
from ray import ObjectRef  # isort: skip
from ray.exceptions import RayError, WorkerCrashedError  # isort: skip

T = TypeVar("T")

_SMALL_BYTES = 16_384
"""Shared values up to here travel with their items: fetching one costs a worker more."""
_GRACE_SECONDS = 60.0
"""How long items in work may take to end when the rest is called off; experiments save a checkpoint meanwhile."""


class RayExecutor(Executor):
    """Workers of a Ray cluster, one thread each."""

    workers: int | None = Field(None, ge=1, description="items in work at once; None: as many as the cluster has CPUs")
    address: str | None = Field(None, description="HOST:PORT, auto or local; None: RAY_ADDRESS, else a local cluster")
    retries: int = Field(3, ge=0, description="how often an item whose worker died is begun again")
    gpus: float = Field(0.0, ge=0, description="GPUs, or a part of one, that each item holds")

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Apply `fn` in the workers; results as they finish.

        `fn` goes through the object store once, an item travels with its task. An item that raises is not retried.

        Raises:
            UserError: no cluster answers at the address, or it lacks the GPUs.
            RunError: an item failed, or its worker died more often than it is retried.
        """
        cluster.connect(self.address, self.workers)
        task = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=self.retries)(work)
        shared: Shared[Any] = Shared(put(packed(fn), Surroundings.here()))
        left, waiting = enumerate(items), dict[int, ObjectRef[bytes]]()
        ended = SimpleQueue[tuple[int, Future[bytes]]]()

        def end(position: int, future: Future[bytes]) -> None:
            ended.put((position, future))

        def submit(n: int) -> None:
            for position, item in itertools.islice(left, n):
                waiting[position] = task.remote(shared, packed(item))
                waiting[position].future().add_done_callback(partial(end, position))

        try:
            submit(self._ahead(cluster.slots(self.gpus)))
            while waiting:
                position, future = ended.get()
                del waiting[position]
                submit(1)
                yield position, told_result(position, self._told(position, future))
        finally:
            if waiting:
                _call_off(list(waiting.values()))

    def share(self, value: T) -> Callable[[], T]:
        """A value that goes through the object store once, however many items hold it; a small one goes with them."""
        data = packed(value)
        if len(data) <= _SMALL_BYTES:
            return super().share(value)
        cluster.connect(self.address, self.workers)
        shared: Shared[T] = Shared(put(data))
        return shared

    def _ahead(self, slots: int) -> int:
        """How many items are handed over at once: where Ray bounds what runs, some wait to fill gaps."""
        return self.workers if self.workers is not None and self.workers < slots else 2 * slots

    def _told(self, position: int, future: Future[bytes]) -> bytes:
        try:
            return future.result()
        except WorkerCrashedError as error:
            again = f" {self.retries + 1} times" if self.retries else ""
            raise RunError(f"a worker process died{again} while item {position} was in work") from error
        except RayError as error:
            raise RunError(f"item {position} was lost: {reason(error)}") from error


def _call_off(references: list[ObjectRef[bytes]]) -> None:
    """Raise KeyboardInterrupt where items are in work, as Ctrl-C would, and wait for them to end."""
    for reference in references:
        ray.cancel(reference)
    _, late = ray.wait(references, num_returns=len(references), timeout=_GRACE_SECONDS)
    for reference in late:
        ray.cancel(reference, force=True)
