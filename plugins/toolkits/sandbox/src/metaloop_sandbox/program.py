"""A program in the sandbox, as its parent sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from metaloop_sandbox.answer import Answer, Json, Reason
from metaloop_sandbox.mechanism import Mechanism
from metaloop_sandbox.pipe import TICK, Ended, Pipe

if TYPE_CHECKING:
    from metaloop_sandbox.launch import Process
    from metaloop_sandbox.sandbox import Sandbox

CUT = 4000
"""Characters of an error that are kept."""
_GAP = 1.0  # seconds between two looks that count at most: if there were more, this process was itself stopped


class Watch:
    """What one call has used, against the sandbox's limits."""

    def __init__(self, process: Process, sandbox: Sandbox) -> None:
        self._process, self._sandbox = process, sandbox
        self._cpu = process.cpu()
        self._bytes = 0
        self.seconds = 0.0
        self._last = self._looked = time.monotonic()

    def received(self, size: int) -> None:
        """Count bytes.

        Raises:
            Ended: there are too many.
        """
        self._bytes += size
        if self._bytes > self._sandbox.output_bytes:
            raise Ended("output", f"the call sent more than {self._sandbox.output_bytes} bytes")

    def pause(self) -> None:
        """What follows, up to `unpause`, is not the program's time."""
        self._count()

    def unpause(self) -> None:
        """From here on it is."""
        self._last = time.monotonic()

    def look(self) -> None:
        """Compare.

        Raises:
            Ended: a limit is passed.
        """
        self._count()
        self._looked = self._last
        if self._process.cpu() - self._cpu > self._sandbox.cpu_seconds:
            raise Ended("cpu", f"the call used more than {self._sandbox.cpu_seconds:g} s of processor time")
        if self.seconds > self._sandbox.wall_seconds:
            raise Ended("wall", f"the call took more than {self._sandbox.wall_seconds:g} s")
        if excess := self._process.excess():
            raise Ended("output", f"the program had {excess}")

    def look_if_due(self) -> None:
        """Compare, if the last time was a tick ago."""
        if time.monotonic() - self._looked > TICK:
            self.look()

    def _count(self) -> None:
        now = time.monotonic()
        self.seconds += min(now - self._last, _GAP)
        self._last = now


class Program:
    """One sandboxed process that has run a source. It is stopped between calls, and killed by `close`.

    One thread at a time may call it.
    """

    started: Answer
    """How running the source went."""

    def __init__(self, sandbox: Sandbox, mechanism: Mechanism, source: str) -> None:
        """Start the process and run the source; use `Sandbox.start`."""
        from metaloop_sandbox.launch import Limits, Process  # Linux only

        self._sandbox = sandbox
        limits = Limits(sandbox.memory_mb, sandbox.scratch_mb, sandbox.processes)
        self._process = Process(mechanism, limits)
        self._pipe = Pipe(self._process.socket)
        self._over: str | None = None
        self.started = self._exchange({"source": source}, {}, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether calls can be made: the source ran, and no call was killed."""
        return self._over is None and self.started.ok

    def call(
        self,
        function: str,
        *arguments: Json,
        calls: Mapping[str, Callable[..., Json]] = {},
        budget: int | None = None,
    ) -> Answer:
        """Run `function(*arguments)` inside, serving its calls to `calls`, at most `budget` of them.

        Inside, each name in `calls` is a global function of positional JSON arguments. What it raises as TypeError,
        ValueError or LookupError reaches the code as a RuntimeError; anything else ends the program and is raised
        here. A call beyond the budget raises `BudgetExceeded` (a RuntimeError, also a global) in the code. When the
        program has ended, every further call answers `died`; when its source did not run, the answer is `started`.

        Raises:
            TypeError, ValueError: the arguments, or what one of `calls` returned, are not JSON.
        """
        if not self.started.ok:
            return self.started
        if self._over is not None:
            return Answer(None, f"the program has ended ({self._over}): start it again", "died", 0, 0.0)
        request = {"function": function, "arguments": arguments, "names": list(calls)}
        return self._exchange(request, calls, budget)

    def close(self) -> None:
        """Kill the process and remove its scratch folder."""
        if self._over is None:
            self._over = "it was closed"
            self._process.end()

    def _exchange(
        self, request: dict[str, Any], calls: Mapping[str, Callable[..., Json]], budget: int | None
    ) -> Answer:
        """One request, the calls it leads to, and its answer."""
        watch = Watch(self._process, self._sandbox)
        served, refused = 0, False
        try:
            self._pipe.expect_silence()
            self._process.go(self._sandbox.cpu_seconds)
            self._pipe.send(request, watch)
            while (name := (message := self._pipe.receive(watch)).get("call")) is not None:
                if not isinstance(name, str) or not isinstance(arguments := message.get("arguments"), list):
                    raise Ended("protocol", "what came over the pipe is not a call")
                if name not in calls:
                    reply = {"error": f"{name} is not served in this call", "budget": False}
                elif budget is not None and served >= budget:
                    refused = True
                    reply = {"error": f"the budget of {budget} calls is used up", "budget": True}
                else:
                    served += 1
                    watch.pause()
                    reply = _serve(calls[name], arguments)
                    watch.unpause()
                self._pipe.send(reply, watch)
            watch.look()
            self._process.halt()
            return _answer(message, refused, served, watch.seconds)
        except Ended as ended:
            reason, why = self._end(ended)
            return Answer(None, why, reason, served, watch.seconds)
        except BaseException:  # also Ctrl-C: what the program would answer next is no answer to the next call
            self.close()
            raise

    def _end(self, ended: Ended) -> tuple[Reason, str]:
        self._over = str(ended)
        status = self._process.end()
        if ended.reason == "died" and status:
            if status == -24:  # SIGXCPU: the kernel was quicker
                return "cpu", f"the call used more than {self._sandbox.cpu_seconds:g} s of processor time"
            return "died", f"the process ended with {f'signal {-status}' if status < 0 else f'exit code {status}'}"
        return ended.reason, str(ended)


def _serve(function: Callable[..., Json], arguments: list[Json]) -> dict[str, Any]:
    try:
        return {"value": function(*arguments)}
    except (TypeError, ValueError, LookupError) as error:
        return {"error": f"{type(error).__name__}: {error}", "budget": False}


def _answer(message: dict[str, Any], refused: bool, served: int, seconds: float) -> Answer:
    """The answer that a last message is. The program says why it failed; `budget` only counts if that can be."""
    if "value" in message:
        return Answer(message["value"], None, "ok", served, seconds)
    error = message.get("error")
    if not isinstance(error, str):
        raise Ended("protocol", "what came over the pipe is neither a call nor an answer")
    kind = message.get("kind")
    reason: Reason = "memory" if kind == "memory" else "budget" if kind == "budget" and refused else "raised"
    return Answer(None, error[-CUT:], reason, served, seconds)
