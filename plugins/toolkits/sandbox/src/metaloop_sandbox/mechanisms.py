"""Which mechanism works here, and what each holds off."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Literal

from metaloop.errors import UserError

from metaloop_sandbox.mechanism import MECHANISMS, Mechanism

Threat = Literal["endlessness", "answers", "environment", "processes", "network", "files", "names"]
"""What untrusted code may try; `MEANING` says what each stands for."""

MEANING: dict[Threat, str] = {
    "endlessness": "processor time, wall clock, memory and output beyond the limits",
    "answers": "answers that are not what they should be",
    "processes": "other processes: starting, tracing, signalling them, or outliving the call",
    "network": "connections and sockets of any kind",
    "environment": "the parent's environment variables",
    "files": "reading or changing anything outside the scratch folder",
    "names": "learning which files exist outside",
}

HOLDS_OFF: dict[Mechanism, tuple[Threat, ...]] = {
    "bubblewrap": ("endlessness", "answers", "processes", "network", "environment", "files", "names"),
    "landlock": ("endlessness", "answers", "processes", "network", "environment", "files"),
    "seccomp": ("endlessness", "answers", "processes", "network"),
    "rlimits": ("endlessness", "answers"),
}

_REMEDY = {
    "bubblewrap": "install bubblewrap (Debian, Ubuntu, Fedora: the package bubblewrap) and let users make namespaces",
    "landlock": "install bubblewrap (the package bubblewrap), or use a kernel from 5.13 with Landlock",
    "seccomp": "use Linux on x86_64 or aarch64",
    "rlimits": "use Linux 5.3 or newer",
}


@dataclass(frozen=True)
class Protection:
    """Which mechanism runs the code, what it is made of, what it holds off and what it does not."""

    mechanism: Mechanism
    layers: tuple[str, ...]
    holds_off: tuple[Threat, ...]

    @property
    def not_held_off(self) -> tuple[Threat, ...]:
        """What the mechanism leaves open. Bugs of the kernel and side channels are open in all of them."""
        return tuple(threat for threat in MEANING if threat not in self.holds_off)

    def __str__(self) -> str:
        left = "; ".join(MEANING[threat] for threat in self.not_held_off)
        return f"{self.mechanism} ({', '.join(self.layers)}); " + (f"not held off: {left}" if left else "holds off all")


def choose(mechanism: Mechanism | Literal["auto"], minimum: Mechanism) -> Protection:
    """The strongest mechanism that works here, or the one that is asked for.

    Raises:
        UserError: what works here, or was asked for, is weaker than `minimum`.
    """
    asked = MECHANISMS if mechanism == "auto" else (mechanism,)
    failed: dict[Mechanism, str] = {}
    for name in asked:
        found = probe(name)
        if isinstance(found, Protection):
            if MECHANISMS.index(name) <= MECHANISMS.index(minimum):
                return found
            why = f" ({_list(failed)})" if failed else ""
            raise UserError(
                f"the sandbox would be {name!r}{why}, which is weaker than its minimum {minimum!r}: "
                f"{_REMEDY[minimum]}; or accept less with minimum={name!r}"
            )
        failed[name] = found
    raise UserError(f"the sandbox does not work here ({_list(failed)}): {_REMEDY[asked[0]]}")


@functools.cache
def probe(mechanism: Mechanism) -> Protection | str:
    """Start an empty program by this mechanism, once: what protects it, or why it does not work here."""
    if sys.platform != "linux":
        return f"{sys.platform} has none of its parts"
    from metaloop_sandbox import seccomp
    from metaloop_sandbox.launch import LaunchError, Process

    if mechanism != "rlimits" and not seccomp.supported():
        return "the system calls of this processor are not known"
    try:
        process = Process(mechanism)
    except LaunchError as error:
        return str(error)
    process.end()
    own = ("namespaces", "a root of its own", "seccomp") if mechanism == "bubblewrap" else ()
    return Protection(mechanism, (*own, *process.layers, "rlimits"), HOLDS_OFF[mechanism])


def _list(failed: dict[Mechanism, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in failed.items())
