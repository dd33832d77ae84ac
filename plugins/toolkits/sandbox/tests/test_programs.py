"""What a program can do, how its failures are told, and what its parent survives."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metaloop import testing
from metaloop.errors import UserError
from metaloop_sandbox import Sandbox, mechanisms, run
from metaloop_sandbox.mechanism import MECHANISMS, Mechanism

from .mechanism_here import need

SANDBOX = Sandbox(wall_seconds=60, memory_mb=128, minimum="rlimits")
# Sends raw bytes to the parent, in place of an answer.
SEND = """
import os
def f(data, then=None):
    for at in range(3, 64):
        try:
            os.write(at, data.encode("latin-1"))
        except OSError:
            pass
    return then
"""


@testing.parametrize("sandbox")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()


@pytest.fixture(params=MECHANISMS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    mechanism: Mechanism = request.param
    need(mechanism)
    return SANDBOX.but(mechanism=mechanism)


def test_code_calls_its_parent_within_the_budget_and_keeps_its_state_between_calls(sandbox: Sandbox) -> None:
    source = """
total = 0
def f(n):
    global total
    for i in range(n):
        total += ask(i, {'x': [i]})
    return total
"""
    asked: list[Any] = []

    def ask(number: int, more: Any) -> int:
        asked.append((number, more))
        return 10 * number

    with sandbox.start(source) as program:
        first = program.call("f", 3, calls={"ask": ask})
        assert (first.value, first.reason, first.calls) == (30, "ok", 3)
        assert asked == [(0, {"x": [0]}), (1, {"x": [1]}), (2, {"x": [2]})]
        beyond = program.call("f", 3, calls={"ask": ask}, budget=2)
        assert (beyond.reason, beyond.calls, len(asked)) == ("budget", 2, 5)
        assert program.call("f", 1, calls={"ask": ask}, budget=1).value == 40
        assert program.call("f", 1).reason == "raised"  # nothing is served in this call


def test_code_that_catches_the_refusal_answers_as_usual() -> None:
    source = "def f():\n    try:\n        ask()\n    except BudgetExceeded as error:\n        return str(error)"
    answer = run(source, "f", calls={"ask": lambda: 1}, budget=0, sandbox=SANDBOX)
    assert (answer.value, answer.reason) == ("the budget of 0 calls is used up", "ok")


def test_wrong_arguments_of_a_call_reach_the_code_and_a_parents_own_failure_reaches_the_parent() -> None:
    def lookup(key: str) -> str:
        return {"a": "b"}[key]

    def broken() -> None:
        raise ConnectionError("the model is away")

    source = """
def f(*x):
    try:
        return lookup(*x)
    except RuntimeError as error:
        return str(error)
def g():
    broken()
"""
    with SANDBOX.start(source) as program:
        assert program.call("f", "z", calls={"lookup": lookup}).value == "KeyError: 'z'"
        assert "positional argument" in program.call("f", calls={"lookup": lookup}).value
        with pytest.raises(ConnectionError, match="the model is away"):
            program.call("g", calls={"broken": broken})
        assert not program.alive
        assert program.call("f", "a", calls={"lookup": lookup}).reason == "died"


def test_what_the_code_raises_is_told_with_its_lines_and_the_program_goes_on(sandbox: Sandbox) -> None:
    source = """import sys
def f(x):
    return 1 / x
def leave():
    sys.exit(3)
def odd():
    return {1, 2}
def long():
    raise ValueError('x' * 100_000)
"""
    with sandbox.start(source) as program:
        failed = program.call("f", 0)
        assert failed.reason == "raised"
        assert failed.error == (
            "Traceback (most recent call last):\n"
            '  File "<program>", line 3, in f\n    return 1 / x\n           ~~^~~\n'
            "ZeroDivisionError: division by zero\n"
        )
        assert "SystemExit: 3" in str(program.call("leave").error)
        assert "set is not JSON" in str(program.call("odd").error)
        assert "no attribute 'absent'" in str(program.call("absent").error)
        assert len(str(program.call("long").error)) <= 4000
        assert program.call("f", 2).value == 0.5


@pytest.mark.parametrize(
    ("source", "told"),
    [("def f(:", "SyntaxError"), ("import numpy", "No module named 'numpy'"), ("raise SystemExit", "SystemExit")],
)
def test_a_source_that_does_not_run_is_told_by_every_answer(source: str, told: str) -> None:
    with SANDBOX.start(source) as program:
        assert not program.alive
        for answer in (program.started, program.call("f")):
            assert answer.reason == "raised"
            assert told in str(answer.error)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os; os._exit(7)", "died"),
        ("import ctypes; ctypes.string_at(0)", "died"),
        ("while True: pass", "cpu"),
        ("import time; time.sleep(100)", "wall"),
        ("return 'x' * 2_000_000", "output"),
    ],
)
def test_a_program_that_was_killed_says_why_and_then_only_that_it_is_gone(
    sandbox: Sandbox, body: str, reason: str
) -> None:
    limited = sandbox.but(cpu_seconds=0.2, wall_seconds=0.5 if reason == "wall" else 60)
    with limited.start(f"def f():\n    {body}\ndef g():\n    return 1") as program:
        assert program.call("g").value == 1
        assert program.call("f").reason == reason
        assert not program.alive
        assert program.call("g").reason == "died"


def test_code_that_asks_without_end_uses_up_its_time() -> None:
    source = "def f():\n    while True:\n        ask(1)"
    limited = SANDBOX.but(cpu_seconds=0.2, output_bytes=1_000_000_000)
    assert run(source, "f", calls={"ask": lambda x: x}, sandbox=limited).reason == "cpu"


def test_a_memory_error_is_told_and_the_program_goes_on(sandbox: Sandbox) -> None:
    with sandbox.start("def f(n):\n    return len(b'x' * n)") as program:
        assert program.call("f", 1 << 30).reason == "memory"
        assert program.call("f", 10).value == 10


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("not JSON\n", "protocol"),
        ("[1]\n", "protocol"),
        ("[" * 100_000 + "\n", "protocol"),
        ('{"value": NaN}\n', "protocol"),
        ('{"value": 1e999}\n', "protocol"),
        ('{"value": ' + "1" * 5_000 + "}\n", "protocol"),
        ('{"value": "\\ud800"}\n', "protocol"),
        ('{"value": "\xff"}\n', "protocol"),
        ('{"call": ["ask"], "arguments": []}\n', "protocol"),
        ('{"call": "ask", "arguments": {}}\n', "protocol"),
        ('{"error": 5}\n', "protocol"),
        ('{"value": ' + "[" * 200 + "]" * 200 + "}\n", "protocol"),
        ("\0" * 100 + "\n", "protocol"),
        ("x" * 1_500_000, "output"),
        ("{}\n" * 400_000, "protocol"),
    ],
)
def test_the_parent_survives_what_is_no_answer(data: str, reason: str) -> None:
    with SANDBOX.start(SEND) as program, SANDBOX.start("def f():\n    return 1") as other:
        answer = program.call("f", data, calls={"ask": lambda: 1})
        assert (answer.reason, answer.value) == (reason, None)
        assert not program.alive
        assert other.call("f").value == 1


def test_an_answer_given_before_its_question_counts_for_nothing() -> None:
    with SANDBOX.start(SEND) as program:
        early = '{"value": "true"}\n{"value": "forged"}\n'
        assert program.call("f", early).value == "true"  # its own answer it may choose
        assert program.call("f", "").reason == "protocol"


def test_a_pipe_that_the_code_closes_ends_the_program() -> None:
    assert run("import os\ndef f():\n    os.closerange(3, 64)", "f", sandbox=SANDBOX).reason == "died"


def test_an_answer_is_never_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(marker),))

    bomb = pickle.dumps(Bomb(), 0).decode("latin-1")
    pickle.loads(bomb.encode("latin-1"))
    assert marker.exists(), "the bomb does not work"
    marker.rmdir()
    assert run(SEND, "f", bomb + "\n", sandbox=SANDBOX).reason == "protocol"
    assert run(SEND, "f", "", bomb, sandbox=SANDBOX).value == bomb
    assert not marker.exists()


def test_a_scratch_folder_is_there_is_empty_and_is_gone_afterwards(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = """
import os
def f():
    before = os.listdir()
    with open("note", "w") as file:
        file.write("kept")
    os.makedirs("a/b/c")
    return before, open("note").read()
def deep():
    os.mkdir("shut", 0)
    for _ in range(3000):
        os.mkdir("deep")
        os.chdir("deep")
"""
    with sandbox.start(source) as program:
        assert program.call("f").value == [[], "kept"]
        program.call("deep")
    assert list(tmp_path.iterdir()) == []


def test_the_code_has_the_standard_library_no_environment_and_one_order_of_sets(sandbox: Sandbox) -> None:
    names = "bisect collections dataclasses datetime decimal fractions hashlib heapq itertools json lzma math random re"
    source = f"""
import dataclasses, importlib, os, re
@dataclasses.dataclass
class Point:
    x: int
def f():
    for name in "{names} statistics string textwrap typing unicodedata uuid zlib".split():
        importlib.import_module(name)
    return [dict(os.environ), list({{"a", "b", "c", "d"}}), Point(3).x]
"""
    first, second = run(source, "f", sandbox=sandbox), run(source, "f", sandbox=sandbox)
    assert first.ok, first.error
    assert first.value[0] == {}
    assert first.value == second.value


def test_between_calls_nothing_runs() -> None:
    with SANDBOX.start("def f():\n    return 1") as program:
        assert program.call("f").value == 1
        for _ in range(1000):
            if (state := Path(f"/proc/{program._process.pid}/stat").read_text().rpartition(")")[2].split()[0]) == "T":
                break
        assert state == "T"
        assert program.call("f").value == 1


def test_threads_run_where_they_are_allowed_and_no_more_than_allowed(sandbox: Sandbox) -> None:
    source = """
import threading, time
def f(n, seconds):
    done = []
    threads = [threading.Thread(target=lambda: (time.sleep(seconds), done.append(1))) for _ in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(done)
"""
    with sandbox.but(processes=4).start(source) as program:
        assert program.call("f", 3, 0.01).value == 3
        assert program.call("f", 20, 1).value is None


def test_less_than_the_minimum_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    why = {"bubblewrap": "bwrap is not installed", "landlock": "the kernel lacks it"}
    works = mechanisms.Protection("seccomp", ("seccomp",), mechanisms.HOLDS_OFF["seccomp"])
    monkeypatch.setattr(mechanisms, "probe", lambda name: why.get(name, works))
    told = r"would be 'seccomp' \(bubblewrap: bwrap is not installed; landlock: .*install bubblewrap.*minimum='seccomp'"
    with pytest.raises(UserError, match=told):
        Sandbox().start("")
    assert Sandbox(minimum="seccomp").describe() == works
    assert "reading or changing anything outside" in str(works)
    with pytest.raises(UserError, match=r"does not work here \(bubblewrap: .*\): install bubblewrap"):
        Sandbox(mechanism="bubblewrap").start("")
    monkeypatch.undo()
    with pytest.raises(UserError, match="would be 'rlimits', which is weaker than its minimum 'landlock'"):
        Sandbox(mechanism="rlimits").start("")


def test_auto_takes_the_strongest_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    need("landlock")
    real = mechanisms.probe
    monkeypatch.setattr(mechanisms, "probe", lambda name: "no user namespaces" if name == "bubblewrap" else real(name))
    assert Sandbox().describe().mechanism == "landlock"
    assert run("def f():\n    return 1", "f").value == 1
