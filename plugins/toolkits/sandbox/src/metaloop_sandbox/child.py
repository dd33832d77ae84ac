"""What runs inside the sandbox, given to a bare interpreter as text: standard library only, and not imported by others.

Lines of JSON come and go on one descriptor, whose number is the argument. The first line says how to confine this
process (nothing to do under bubblewrap); then requests: `source`, or `function` with `arguments` and `names` that the
parent serves.

It is started for every program, so it imports next to nothing: `json` and `typing` would take longer than all the rest.
"""

from __future__ import annotations

import _json
import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

CUT = 4000
"""Characters of a traceback that are sent: the last ones."""


class BudgetExceeded(RuntimeError):  # noqa: N818
    """The parent serves no more calls."""


class Strict:
    """How `_json`, the C part of `json`, reads."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int, parse_float, parse_constant = int, float, float


def refuse(value: object) -> None:
    """What there is no JSON for."""
    raise TypeError(f"{type(value).__name__} is not JSON")


scan: Any = _json.make_scanner(Strict())  # type: ignore[arg-type]  # text, position -> value, end
encode = _json.make_encoder(None, refuse, _json.encode_basestring_ascii, None, ": ", ", ", False, False, False)


class Pipe:
    """The descriptor to the parent."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lines = open(descriptor, "rb", closefd=False)  # noqa: SIM115
        self.lock = _thread.allocate_lock()
        self.source = ""

    def receive(self) -> Any:
        """The next line; ends the process when the parent has closed the pipe."""
        line = self.lines.readline()
        if not line:
            os._exit(0)
        return scan(line.decode(), 0)[0]

    def send(self, message: dict[str, Any]) -> None:
        """One line."""
        data = memoryview(("".join(encode(message, 0)) + "\n").encode())
        while data:
            data = data[os.write(self.descriptor, data) :]

    def ask(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Let the parent serve a call."""
        with self.lock:
            self.send({"call": name, "arguments": arguments})
            reply = self.receive()
        if "value" in reply:
            return reply["value"]
        raise (BudgetExceeded if reply["budget"] else RuntimeError)(reply["error"])


def main() -> None:
    """Confine this process, then serve requests until the parent closes the pipe."""
    pipe = Pipe(int(sys.argv[1]))
    sys.argv[1:] = []
    os.environ.clear()
    layers = confine(pipe.receive())
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    pipe.send({"layers": layers})
    program: ModuleType = type(sys)("program")
    sys.modules["program"] = program
    vars(program)["BudgetExceeded"] = BudgetExceeded
    while True:
        request = pipe.receive()
        for name in request.get("names", ()):
            vars(program)[name] = served(pipe, name)
        answer(pipe, program, request)


def served(pipe: Pipe, name: str) -> Any:
    """The function that the code sees under a name of the parent's."""

    def function(*arguments: Any) -> Any:
        return pipe.ask(name, arguments)

    function.__name__ = function.__qualname__ = name
    return function


def answer(pipe: Pipe, program: ModuleType, request: dict[str, Any]) -> None:
    """Run what the request asks for and send how it went."""
    try:
        value = None
        if "source" in request:
            pipe.source = request["source"]
            exec(compile(request["source"], "<program>", "exec", dont_inherit=True), vars(program))
        else:
            value = getattr(program, request["function"])(*request["arguments"])
        pipe.send({"value": value})
    except MemoryError:
        kind, error = "memory", "MemoryError"
    except BaseException as raised:
        kind = "budget" if isinstance(raised, BudgetExceeded) else "raised"
        error = text(raised, pipe.source)
    else:
        return
    pipe.send({"error": error, "kind": kind})


def text(error: BaseException, source: str) -> str:
    """The traceback below this file's own frames, with the lines of the source."""
    try:
        import linecache
        import traceback

        linecache.cache["<program>"] = (len(source), None, source.splitlines(keepends=True), "<program>")

        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == text.__code__.co_filename:
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        return "".join(lines)[-CUT:]
    except BaseException:
        return type(error).__name__


def confine(how: dict[str, Any]) -> list[str]:
    """Apply what the parent asks for, and say what was applied. What is asked for and fails is raised."""
    if not how:
        return []
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def must(done: int, what: str) -> int:
        if done < 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
        return done

    must(libc.prctl(1, 9, 0, 0, 0), "PR_SET_PDEATHSIG")  # SIGKILL when the parent goes
    if os.getppid() != how["parent"]:
        os._exit(1)
    must(libc.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    layers = []
    if how["seccomp"] is not None:
        new = 0x40000000 | 0x08000000 | 0x04000000  # CLONE_NEWNET, NEWIPC, NEWUTS
        if libc.unshare(0x10000000 | new) == 0 or libc.unshare(new) == 0:  # with CLONE_NEWUSER, or as root without
            layers.append("namespaces")
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        must(libc.capset(header, nothing), "capset")
    if how["landlock"] is not None:
        layers.append(f"Landlock ABI {landlock(libc, must, how['landlock'])}")
    if how["seccomp"] is not None:
        code = bytes.fromhex(how["seccomp"])
        held = ctypes.create_string_buffer(code, len(code))

        class Filter(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_void_p))

        loaded = Filter(len(code) // 8, ctypes.addressof(held))
        must(libc.prctl(22, 2, ctypes.byref(loaded), 0, 0), "PR_SET_SECCOMP")
        layers.append("seccomp")
    return layers


def landlock(libc: Any, must: Any, paths: dict[str, list[str]]) -> int:
    """Leave this process `list` (names below), `read` and `write` (folders); the version of Landlock that does it."""
    import ctypes
    import stat

    create, add, restrict = 444, 445, 446
    abi: int = must(libc.syscall(create, None, 0, 1), "Landlock")
    handled = (1 << (13 if abi == 1 else 14 if abi == 2 else 15 if abi < 5 else 16)) - 1
    attributes = [handled, 3, 3][: 1 if abi < 4 else 2 if abi < 6 else 3]  # files; TCP; abstract sockets and signals
    ruleset = must(
        libc.syscall(create, (ctypes.c_uint64 * len(attributes))(*attributes), ctypes.c_size_t(8 * len(attributes)), 0),
        "Landlock ruleset",
    )

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))

    read_file, read_dir, write_file, truncate = 4, 8, 2, 1 << 14
    make_and_remove = 16 | 32 | 128 | 256 | 1 << 13  # REMOVE_DIR REMOVE_FILE MAKE_DIR MAKE_REG REFER
    access = {
        "list": read_dir,
        "read": read_file | read_dir,
        "write": read_file | read_dir | write_file | truncate | make_and_remove,
    }
    on_files = read_file | write_file | truncate
    for kind, allowed in access.items():
        for path in paths[kind]:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = Beneath(allowed & handled & (handled if is_folder else on_files), descriptor)
            must(libc.syscall(add, ruleset, 1, ctypes.byref(rule), 0), f"Landlock rule for {path}")
            os.close(descriptor)
    must(libc.syscall(restrict, ruleset, 0), "Landlock restriction")
    os.close(ruleset)
    return abi


if __name__ == "__main__":
    main()
