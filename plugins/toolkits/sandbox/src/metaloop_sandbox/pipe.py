"""The parent's end of the pipe: lines of JSON, none of them trusted."""

from __future__ import annotations

import json
import math
import select
import socket
from typing import Any, Protocol

from metaloop_sandbox.answer import Reason

TICK = 0.05
"""Seconds between two looks at the limits."""
DEPTH = 100
"""Lists and objects that may be inside each other: what reads an answer later may be recursive."""


class Ended(Exception):  # noqa: N818 (a way out, not an error of the parent)
    """The program has to be killed, or is gone."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Watch(Protocol):
    """Who is told what comes in, and looks at the limits; both raise `Ended`."""

    def received(self, size: int) -> None:
        """So many bytes came."""

    def look(self) -> None:
        """Compare what was used with the limits."""

    def look_if_due(self) -> None:
        """The same, if the last look was a tick ago."""


class Pipe:
    """A socket that the child has inherited the other end of."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TICK)
        self._socket = connection
        self._buffer = bytearray()

    def expect_silence(self) -> None:
        """Nothing may come from a program that has answered and not been asked anew.

        Raises:
            Ended: something did.
        """
        if self._buffer or select.select([self._socket], [], [], 0)[0]:
            raise Ended("protocol", "more came over the pipe than one answer")

    def send(self, message: dict[str, Any], watch: Watch) -> None:
        """One line; the child may refuse to read it.

        Raises:
            Ended: a limit was passed, or the child is gone.
            TypeError, ValueError: the message isn't JSON.
        """
        data = memoryview(json.dumps(message, allow_nan=False).encode() + b"\n")
        while data:
            try:
                data = data[self._socket.send(data) :]
            except TimeoutError:
                watch.look()
            except OSError:
                raise Ended("died", "the process has closed its pipe") from None

    def receive(self, watch: Watch) -> dict[str, Any]:
        """The next line, which is an object.

        Raises:
            Ended: a limit was passed, the child is gone, or what it sent is not a line of strict JSON.
        """
        searched = 0
        watch.look_if_due()  # also where lines come without a pause
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            try:
                chunk = self._socket.recv(1 << 16)
                if not chunk:
                    raise Ended("died", "the process has closed its pipe")
                self._buffer += chunk
                watch.received(len(chunk))
            except TimeoutError:
                pass
            except OSError:
                raise Ended("died", "the process has closed its pipe") from None
            watch.look_if_due()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return parse(line)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def parse(line: bytes) -> dict[str, Any]:
    """A line of strict JSON that is an object, in UTF-8, with finite numbers and whole characters."""
    try:
        message = json.loads(line, parse_constant=_refuse, parse_float=_finite)
        if b"\\u" in line:
            json.dumps(message, ensure_ascii=False).encode()  # half a surrogate pair can't be written anywhere
    except (ValueError, RecursionError) as error:
        raise Ended("protocol", f"what came over the pipe is not JSON: {str(error)[:200]}") from None
    if not isinstance(message, dict):
        raise Ended("protocol", "what came over the pipe is not an object")
    layer: list[Any] = [message]
    for _ in range(DEPTH):
        inner = (item for held in layer for item in (held.values() if isinstance(held, dict) else held))
        layer = [item for item in inner if isinstance(item, dict | list)]
        if not layer:
            return message
    raise Ended("protocol", f"what came over the pipe is nested deeper than {DEPTH}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is too large")
    return value
