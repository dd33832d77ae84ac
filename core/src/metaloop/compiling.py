"""torch.compile as an option: one compiled function per purpose, plain torch where no compiler is at hand."""

from __future__ import annotations

import atexit
import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Compiled:
    """Wraps functions in `torch.compile` once each, when enabled."""

    enabled: bool = False
    _functions: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, fn: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The compiled form of `fn`, kept under `name` for the experiment's lifetime; `fn` itself when not enabled."""
        if not self.enabled:
            return fn
        if name not in self._functions:
            self._functions[name] = self._guarded(fn)
        return self._functions[name]

    def _guarded(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        quick = torch.compile(fn)
        proven = False

        def run(*args: Any) -> Any:
            nonlocal proven
            if proven:
                return quick(*args)
            if not self.enabled:
                return fn(*args)
            try:
                result = quick(*args)
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                result = fn(*args)  # an error of the learner's own is raised here, as it would be without compiling
                self.enabled = False
                warnings.warn(f"compile=True has no effect here, plain torch is used: {reason}", stacklevel=2)
                return result
            proven = True
            # Compiling leaves many Python objects: one full collection would stop a later step for some 0.2 s.
            gc.collect()
            gc.freeze()
            atexit.register(gc.unfreeze)  # or libraries report their objects as leaked at exit
            return result

        return run
