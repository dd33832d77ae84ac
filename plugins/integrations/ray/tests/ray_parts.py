"""What the tests send to workers: a module of its own, because workers import it by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from metaloop import TaskFamily
from metaloop.claims import Claim, Less, Sample
from metaloop.key import Key
from metaloop.learner import PerObject
from metaloop.meta_optimizer import MetaOptimizer
from metaloop.objective import Objective
from metaloop.outcome import Draw, Outcome, outcome
from metaloop.specs import Spec, TextSpec

LOG = "METALOOP_TEST_LOG"
BALLAST = 300_000


def note(what: object) -> None:
    """A line in the log that a variable of the driver names."""
    with Path(os.environ[LOG]).open("a") as file:
        file.write(f"{os.getpid()} {what}\n")


class Program:
    """A large theta that counts how often it is packed, and notes where it is unpacked."""

    packed = 0

    def __init__(self, number: int) -> None:
        self.number, self.ballast = number, os.urandom(BALLAST)

    def __reduce__(self) -> Any:
        Program.packed += 1
        return _unpack, (self.number, self.ballast)


def _unpack(number: int, ballast: bytes) -> Program:
    note(number)
    program = Program.__new__(Program)
    program.number, program.ballast = number, ballast
    return program


class Numbers(TaskFamily[list[int], Any]):
    """The tasks 0, 1, 2, ..."""

    @property
    def spec(self) -> Spec:
        return TextSpec()

    def sample(self, state: Any, n: int, key: Key) -> Draw[list[int]]:
        return Draw(list(range(n)))


class Runs(PerObject[Any, int, None]):
    """Noise that depends on theta, task and key; breaks on task 2 once theta is 3."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "object"

    def check(self, spec: Spec) -> None:
        return None

    def init(self, spec: Spec, key: Key) -> Any:
        return 0

    def begin_one(self, theta: Any, task: int, key: Key) -> None:
        return None

    def evaluate_one(self, theta: Any, state: None, task: int, key: Key) -> Outcome:
        number = theta.number if isinstance(theta, Program) else theta
        if number == 3 and task == 2:
            raise ValueError("three is too many")
        return outcome(loss=number + task * key.normal(), info=[{"threads": torch.get_num_threads()}])


class Counts(MetaOptimizer[int, dict[str, Any]]):
    """Theta is the number of steps."""

    def check(self, learner: Any) -> None:
        return None

    def step(
        self, theta: int, state: dict[str, Any], objective: Objective[int], key: Key
    ) -> tuple[int, dict[str, Any], Outcome]:
        return theta + 1, state, objective(theta)


def die_once(item: tuple[str, int]) -> int:
    """Is killed in the middle of item 3 the first time."""
    folder, number = item
    mark = Path(folder) / "died"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def die(number: int) -> int:
    """Is killed whenever it is asked for 1."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait(folder: str) -> None:
    """Sleeps until it is interrupted, and says so."""
    (Path(folder) / f"{os.getpid()} began").touch()
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        (Path(folder) / f"{os.getpid()} interrupted").touch()
        raise


def begun(folder: str) -> str:
    """Waits, but for the first."""
    if folder:
        wait(folder)
    return "quick"


def _measure(shift: float) -> Any:
    def measure(setting: Any) -> Sample:
        ours = setting.share("trained", lambda: note("trained") or [1.0 + seed % 7 / 10 for seed in setting.seeds])
        return Sample([value + shift for value in ours], [2.0] * len(ours))

    return measure


CLAIMS = (
    Claim("A1", "less", "Fig. 1", "-", _measure(0.0), Less(0.1), group="A"),
    Claim("B", "less", "Fig. 1", "-", _measure(9.0), Less(0.1)),
    Claim("A2", "less", "Fig. 1", "-", _measure(0.1), Less(0.1), group="A"),
)
