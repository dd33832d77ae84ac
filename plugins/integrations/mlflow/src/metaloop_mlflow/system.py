"""What the machine is busy with, by MLflow's own monitors: CPU, memory, disk, network, and GPUs where there are."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from typing import Any

import psutil
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_SECONDS = 5
_KEPT = 720
"""Samples that are kept while there is no server."""


class Sampler:
    """Looks at the machine every few seconds, and at the memory of the process that trains."""

    def __init__(self, uri: str, training: int) -> None:
        monitor: Any = SystemMetricsMonitor  # MLflow has no types for it
        self._monitor = monitor("", sampling_interval=_SECONDS, tracking_uri=uri)
        self._monitor.collect_metrics()  # the first look at a counter only says where it stands
        self._clear()
        self._last = time.monotonic()
        self._training = training
        self._samples: deque[tuple[float, dict[str, float]]] = deque(maxlen=_KEPT)

    def look(self) -> None:
        """Take a sample, if it is time for one."""
        if time.monotonic() - self._last < self._monitor.sampling_interval:
            return
        self._last = time.monotonic()
        self._monitor.collect_metrics()
        sample = {f"system/{name}": float(value) for name, value in self._monitor.aggregate_metrics().items()}
        self._clear()
        with suppress(psutil.Error):
            memory = psutil.Process(self._training).memory_info().rss
            sample["system/training_process_memory_megabytes"] = memory / 1e6
        self._samples.append((time.time(), sample))

    def waiting(self) -> list[tuple[float, dict[str, float]]]:
        """Samples that were not sent yet."""
        return list(self._samples)

    def sent(self, samples: list[tuple[float, dict[str, float]]]) -> None:
        """Forget samples."""
        for _ in samples:
            self._samples.popleft()

    def _clear(self) -> None:
        for monitor in self._monitor.monitors:
            monitor.clear_metrics()


def sampler(uri: str) -> Sampler | None:
    """A sampler that watches this process's parent, unless the user switched MLflow's system metrics off."""
    asked = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "")
    return None if asked.lower() in ("false", "0") else Sampler(uri, os.getppid())
