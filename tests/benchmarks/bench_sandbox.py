"""A sandboxed program beside a bare interpreter, and a call by its code to the parent beside the same by a plain pipe.

The plain pipe is `multiprocessing`'s: it pickles, and nothing is confined or limited.
"""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection

from common import arguments, compare, report
from metaloop_sandbox import Protection, Sandbox
from metaloop_sandbox.interpreter import ENVIRONMENT, FLAGS, interpreter
from metaloop_sandbox.mechanism import MECHANISMS, Mechanism
from metaloop_sandbox.mechanisms import probe

ASKS = 200
PROMPT = "x" * 300
SOURCE = f"def ask_often():\n    for i in range({ASKS}):\n        ask(i, '{PROMPT}')\ndef nothing():\n    pass\n"


def sandboxed(mechanism: Mechanism) -> Sandbox:
    """Everything at its default but the mechanism."""
    return Sandbox(mechanism=mechanism, minimum="rlimits")


def start(mechanism: Mechanism) -> None:
    """Start a program and end it."""
    with sandboxed(mechanism).start(SOURCE):
        pass


def first(i: int, prompt: str) -> int:
    """The parent's function."""
    return i


def bare() -> None:
    """The interpreter that programs run in, doing nothing."""
    subprocess.run([interpreter().executable, *FLAGS, "-c", "pass"], env=ENVIRONMENT, check=True)


def asking(connection: Connection) -> None:
    """What the code does, in an unconfined process: asks by a pickling pipe whenever told."""
    while connection.recv():
        for i in range(ASKS):
            connection.send((i, PROMPT))
            connection.recv()
        connection.send(None)


def serving(connection: Connection) -> Callable[[], None]:
    """The parent's side of `asking`."""

    def serve() -> None:
        connection.send(True)
        while (asked := connection.recv()) is not None:
            connection.send(asked[0])

    return serve


def main() -> None:
    """Interleave each mechanism that works here with its peers."""
    given = arguments(__doc__ or "")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=asking, args=(theirs,))
    process.start()
    rows, facts = [], {}
    for mechanism in MECHANISMS:
        if not isinstance(about := probe(mechanism), Protection):
            facts[mechanism] = about
            continue
        bare_python = ("bare interpreter", bare)
        rows.append(
            compare("start and end", bare_python, (mechanism, lambda m=mechanism: start(m)), rounds=given.rounds)
        )
        with sandboxed(mechanism).start(SOURCE) as program:
            rows.append(
                compare(
                    f"{ASKS} calls to the parent",
                    ("pickling pipe", serving(ours)),
                    (mechanism, lambda p=program: p.call("ask_often", calls={"ask": first})),
                    rounds=given.rounds,
                )
            )
            rows.append(
                compare(
                    "one call of the code",
                    ("bare interpreter", bare),
                    (mechanism, lambda p=program: p.call("nothing")),
                    rounds=given.rounds,
                    calls=(1, 20),
                )
            )
    ours.send(False)
    process.join()
    report("Sandboxed programs", rows, facts, given)


if __name__ == "__main__":
    main()
