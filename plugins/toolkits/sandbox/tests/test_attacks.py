"""Each attack works outside the sandbox, and has no effect from inside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metaloop_sandbox import Program, Sandbox
from metaloop_sandbox.interpreter import FLAGS, interpreter
from metaloop_sandbox.mechanism import MECHANISMS, Mechanism
from metaloop_sandbox.mechanisms import HOLDS_OFF

from .attacks import ATTACKS, HOOK, PATCH, Attack, hooked, patched
from .mechanism_here import need
from .world import children, world

SANDBOX = Sandbox(cpu_seconds=10, wall_seconds=60, memory_mb=128, minimum="rlimits")
CASES = [
    pytest.param(mechanism, attack, id=f"{mechanism}-{attack.name}")
    for attack in ATTACKS
    for mechanism in MECHANISMS
    if attack.threat in HOLDS_OFF[mechanism]
]


outside: dict[str, bool] = {}


def works_outside(attack: Attack, folder: Path) -> bool:
    """Whether the attack works as a plain process of this user; tried once."""
    if attack.name not in outside:
        outside[attack.name] = try_outside(attack, folder)
    return outside[attack.name]


def try_outside(attack: Attack, folder: Path) -> bool:
    call = "\nimport json\nprint(json.dumps(attack(json.loads(sys.argv[1]))))\n"
    with world(folder / "outside", attack.victim) as host:
        scratch = folder / "scratch"
        scratch.mkdir()
        said = folder / "said"
        with said.open("w") as file:  # a pipe would wait for what the attack leaves running
            subprocess.run(
                [interpreter().executable, *FLAGS, "-c", attack.source + call, json.dumps(host.told())],
                cwd=scratch, env={"SECRET": host.token}, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.DEVNULL, close_fds=False,
            )  # fmt: skip
        return attack.effect(host, json.loads(said.read_text() or "null"))


@pytest.fixture(scope="module")
def bystanders() -> Iterator[dict[Mechanism, Program]]:
    started: dict[Mechanism, Program] = {}
    yield started
    for program in started.values():
        program.close()


def try_inside(attack: Attack, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What the attack achieved from inside, if anything."""
    with world(folder, attack.victim) as host:
        monkeypatch.setenv("SECRET", host.token)
        with sandbox.start(attack.source) as program:
            assert program.started.ok
            answer = program.call("attack", host.told())
        if attack.effect(host, answer.value if answer.ok else answer.error):
            return str(answer)
        return f"left running: {left}" if (left := host.strangers()) else None


@pytest.mark.parametrize(("mechanism", "attack"), CASES)
def test_an_attack_that_works_outside_has_no_effect_from_inside(
    mechanism: Mechanism,
    attack: Attack,
    bystanders: dict[Mechanism, Program],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need(mechanism)
    if not works_outside(attack, tmp_path):
        assert attack.picky, "the attack proves nothing: it does not work outside either"
        pytest.skip("this user or kernel does not allow it outside either")
    if mechanism not in bystanders:
        bystanders[mechanism] = SANDBOX.but(mechanism=mechanism).start("def add(a, b):\n    return a + b")
    sandbox = SANDBOX.but(mechanism=mechanism, **attack.limits)
    assert try_inside(attack, sandbox, tmp_path / "world", monkeypatch) is None
    assert bystanders[mechanism].call("add", 2, 2).value == 4


@pytest.mark.parametrize(
    ("mechanism", "name"),
    [
        ("landlock", "learn that a file exists"),
        ("seccomp", "read a file"),
        ("seccomp", "overwrite a file"),
        ("rlimits", "connect by TCP"),
        ("rlimits", "signal a process"),
        ("rlimits", "leave a daemon behind"),
    ],
)
def test_what_a_mechanism_is_said_to_leave_open_is_open(
    mechanism: Mechanism, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(mechanism)
    attack = next(attack for attack in ATTACKS if attack.name == name)
    assert attack.threat not in HOLDS_OFF[mechanism]
    assert try_inside(attack, SANDBOX.but(mechanism=mechanism), tmp_path / "world", monkeypatch) is not None


@pytest.mark.parametrize(("source", "done"), [(HOOK, hooked), (PATCH, patched)], ids=["import hook", "patched json"])
def test_what_code_does_to_its_interpreter_does_not_reach_the_parents(
    source: str, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(json, "loads", json.loads)
    exec(source, {})
    assert done()
    monkeypatch.undo()
    assert not done()
    with SANDBOX.start(source + "\ndef f():\n    return 1") as program:
        assert program.call("f").value == 1
    assert not done()


def test_nothing_is_left_of_a_program_that_was_never_closed(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom metaloop_sandbox import Sandbox\n"
        "program = Sandbox().start('def f(): return 1')\n"
        "print(program._process.pid, flush=True)\nos._exit(0)\n"
    )
    with world(tmp_path / "world", victim=False) as host:
        before = children()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(500):
            for pid in children() - before:  # orphans come to this process
                os.waitpid(pid, 0)
            if not os.path.exists(f"/proc/{int(done.stdout)}"):
                break
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{int(done.stdout)}")
        assert host.strangers() == set()
