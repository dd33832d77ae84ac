"""What hostile code tries: the body of `attack(world)`, and how the host shows that it worked."""

from __future__ import annotations

import importlib
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metaloop_sandbox.mechanisms import Threat

from .world import World

Effect = Callable[[World, Any], bool]
"""Whether the attack worked, from the host's state and from what the code could report."""


@dataclass(frozen=True)
class Attack:
    name: str
    threat: Threat
    effect: Effect
    body: str
    victim: bool = False
    """Needs a process to attack."""
    picky: bool = False
    """Works outside only with privileges, or in some kernels: skipped where it doesn't."""
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        lines = "\n".join(f"    {line}" for line in self.body.strip().splitlines())
        return f"import os, sys\ndef attack(world):\n{lines}\n"


def leaked(world: World, result: Any) -> bool:
    return world.token in json.dumps(result)


def changed(world: World, result: Any) -> bool:
    return not os.path.exists(world.victim_file) or open(world.victim_file).read() != "whole"


def created(world: World, result: Any) -> bool:
    return sorted(os.listdir(world.folder)) != ["secret.txt", "victim.txt"]


def connected(world: World, result: Any) -> bool:
    return world.connected()


def ended(world: World, result: Any) -> bool:
    return world.victim_ended()


def left(world: World, result: Any) -> bool:
    return bool(world.strangers())


def succeeded(world: World, result: Any) -> bool:
    return result == "done"


def nonnegative(world: World, result: Any) -> bool:
    return isinstance(result, int) and result >= 0


CTYPES = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
SYSCALL = CTYPES + "arm = os.uname().machine == 'aarch64'\n"
BIG = 256 << 20

FILES = [
    Attack("read a file", "files", leaked, "return open(world['secret']).read()"),
    Attack("read by a relative path", "files", leaked, "return open(os.path.relpath(world['secret'])).read()"),
    Attack("read through /proc/self/root", "files", leaked, "return open('/proc/self/root' + world['secret']).read()"),
    Attack(
        "read through the parent's root",
        "files",
        leaked,
        "return open(f'/proc/{world[\"parent\"]}/root' + world['secret']).read()",
        picky=True,
    ),
    Attack(
        "read through a symlink", "files", leaked, "os.symlink(world['secret'], 'link')\nreturn open('link').read()"
    ),
    Attack(
        "read through a symlink to a folder",
        "files",
        leaked,
        "os.symlink('/', 'root')\nreturn open('root' + world['secret']).read()",
    ),
    Attack(
        "read through a hard link",
        "files",
        leaked,
        "os.link(world['secret'], world['folder'] + '/hard')\nreturn open(world['folder'] + '/hard').read()",
    ),
    Attack(
        "read through open folders",
        "files",
        leaked,
        "at = os.open('/', os.O_RDONLY)\n"
        "for part in world['secret'].split('/')[1:]:\n    at = os.open(part, os.O_RDONLY, dir_fd=at)\n"
        "return os.read(at, 100).decode()",
    ),
    Attack(
        "read by a system call",
        "files",
        leaked,
        SYSCALL + "held = ctypes.create_string_buffer(100)\n"
        "at = libc.syscall(56 if arm else 257, -100, world['secret'].encode(), 0, 0)\n"
        "libc.read(at, held, 100)\nreturn held.value.decode()",
    ),
    Attack(
        "read by a file handle",
        "files",
        leaked,
        CTYPES + "handle = ctypes.create_string_buffer(136)\nhandle[0] = 128\nmount = ctypes.c_int()\n"
        "libc.name_to_handle_at(-100, world['secret'].encode(), handle, ctypes.byref(mount), 0)\n"
        "at = libc.open_by_handle_at(os.open('/', os.O_RDONLY), handle, 0)\nreturn os.read(at, 100).decode()",
        picky=True,
    ),
    Attack(
        "read descriptors that were left open",
        "files",
        leaked,
        "found = []\nfor at in range(3, 256):\n    try:\n        os.lseek(at, 0, 0)\n"
        "        found.append(os.read(at, 100).decode(errors='replace'))\n    except OSError:\n        pass\n"
        "return found",
    ),
    Attack(
        "list a folder",
        "files",
        lambda world, result: "victim.txt" in str(result),
        "return os.listdir(world['folder'])",
    ),
    Attack(
        "read an installed package",
        "files",
        lambda world, result: "SPEC" in str(result),
        "return open(world['package']).read()",
    ),
    Attack(
        "learn that a file exists",
        "names",
        lambda world, result: result is True,
        "return os.path.exists(world['secret'])",
    ),
    Attack("overwrite a file", "files", changed, "open(world['victim'], 'w').write('gone')"),
    Attack(
        "overwrite through a symlink",
        "files",
        changed,
        "os.symlink(world['victim'], 'link')\nopen('link', 'w').write('gone')",
    ),
    Attack("append to a file", "files", changed, "open(world['victim'], 'a').write('more')"),
    Attack(
        "map a file and write",
        "files",
        changed,
        "import mmap\nat = os.open(world['victim'], os.O_RDWR)\nmmap.mmap(at, 5)[0:5] = b'agone'",
    ),
    Attack("truncate a file", "files", changed, "os.truncate(world['victim'], 0)"),
    Attack("delete a file", "files", changed, "os.unlink(world['victim'])"),
    Attack("move a file away", "files", changed, "os.rename(world['victim'], world['victim'] + '2')"),
    Attack(
        "put another file in its place",
        "files",
        changed,
        "open(world['folder'] + '/new', 'w').write('gone')\nos.replace(world['folder'] + '/new', world['victim'])",
    ),
    Attack(
        "change a file's mode",
        "files",
        lambda world, result: stat.S_IMODE(os.stat(world.victim_file).st_mode) == 0o777,
        "os.chmod(world['victim'], 0o777)",
    ),
    Attack(
        "change a file's times",
        "files",
        lambda world, result: os.stat(world.victim_file).st_mtime == 1,
        "os.utime(world['victim'], (1, 1))",
    ),
    Attack("create a file", "files", created, "open(world['folder'] + '/new', 'w').close()"),
    Attack("create a folder", "files", created, "os.mkdir(world['folder'] + '/new')"),
    Attack("create a named pipe", "files", created, "os.mkfifo(world['folder'] + '/new')"),
    Attack(
        "plant a module on the parent's path",
        "files",
        lambda world, result: world.planted(),
        "open(world['folder'] + '/planted.py', 'w').write('PLANTED = True')",
    ),
    Attack(
        "leave a file in shared memory",
        "files",
        lambda world, result: os.path.exists(world.shared),
        "open(world['shared'], 'w').write('here')",
    ),
    Attack(
        "mount over a folder",
        "files",
        lambda world, result: os.path.ismount(world.folder),
        CTYPES + "return libc.mount(b'none', world['folder'].encode(), b'tmpfs', 0, None)",
        picky=True,
    ),
]

NETWORK = [
    Attack("connect by TCP", "network", connected,
           "import socket\nsocket.create_connection(('127.0.0.1', world['port']), 2)"),
    Attack("ask for a page", "network", connected,
           "import urllib.request\nurllib.request.urlopen(f'http://127.0.0.1:{world[\"port\"]}/', timeout=1)"),
    Attack("send a datagram", "network", connected,
           "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', world['udp']))"),
    Attack("connect to a socket in a folder", "network", connected,
           "import socket\nsocket.socket(socket.AF_UNIX).connect(world['unix'])"),
    Attack("connect to an abstract socket", "network", connected,
           "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + world['abstract'])"),
    Attack("connect by system calls", "network", connected,
           SYSCALL + "import struct\nat = libc.syscall(198 if arm else 41, 2, 1, 0)\n"
           "to = struct.pack('=HHI8x', 2, "
           "int.from_bytes(world['port'].to_bytes(2, 'big'), sys.byteorder), 0x0100007f)\n"
           "return libc.syscall(203 if arm else 42, at, to, 16)"),
    Attack("listen", "network", succeeded,
           "import socket\nserver = socket.create_server(('127.0.0.1', 0))\nreturn 'done'"),
    Attack("ask the kernel for its network", "network", succeeded,
           "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))\nreturn 'done'"),
]  # fmt: skip

SLEEP = "import time\n    time.sleep(60)\n    os._exit(0)\n"
PROCESSES = [
    Attack("fork many", "processes", left, f"for _ in range(5):\n  if os.fork() == 0:\n    {SLEEP}"),
    Attack("leave a daemon behind", "processes", left,
           f"if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    {SLEEP}  os._exit(0)\nos.wait()"),
    Attack("fork by C", "processes", left, CTYPES + f"if libc.fork() == 0:\n    {SLEEP}"),
    Attack("start a command", "processes", left, "import subprocess\nsubprocess.Popen(['/bin/sleep', '60'])"),
    Attack("spawn a command", "processes", left, "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})"),
    Attack("run other processes by a pool", "processes", left,
           "import multiprocessing, time\n"
           "multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)).start()\nos._exit(0)"),
    Attack("signal a process", "processes", ended, "os.kill(world['pid'], 15)", victim=True),
    Attack("signal the parent", "processes", lambda world, result: world.signalled(), "os.kill(world['parent'], 10)"),
    Attack("signal by a process's descriptor", "processes", ended,
           "import signal\nsignal.pidfd_send_signal(os.pidfd_open(world['pid']), 15)", victim=True),
    Attack("signal by owning a pipe", "processes", ended,
           "import fcntl\nreader, writer = os.pipe()\nfcntl.fcntl(reader, fcntl.F_SETOWN, world['pid'])\n"
           "fcntl.fcntl(reader, 10, 15)\nfcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)\nos.write(writer, b'x')",
           victim=True),
    Attack("signal by a 32-bit system call", "processes", ended,
           "import ctypes, mmap, struct\nheld = mmap.mmap(-1, 4096, prot=7)\n"
           "held.write(b'\\x53\\xb8' + struct.pack('<I', 37) + b'\\xbb' + struct.pack('<I', world['pid'])\n"
           "           + b'\\xb9' + struct.pack('<I', 15) + b'\\xcd\\x80\\x5b\\xc3')\n"
           "return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(held)))()",
           victim=True, picky=True),
    Attack("trace a process", "processes", ended,
           CTYPES + "return libc.ptrace(0x4206, world['pid'], None, ctypes.c_void_p(0x100000))",
           victim=True, picky=True),
    Attack("read a process's memory", "processes", leaked,
           CTYPES + "held = ctypes.create_string_buffer(100)\n"
           "class Part(ctypes.Structure):\n    _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
           "here, there = Part(ctypes.addressof(held), 40), Part(world['address'], 40)\n"
           "libc.process_vm_readv(world['pid'], ctypes.byref(here), 1, ctypes.byref(there), 1, 0)\n"
           "return held.raw.decode(errors='replace')", victim=True, picky=True),
    Attack("read a process's memory as a file", "files", leaked,
           "at = os.open(f'/proc/{world[\"pid\"]}/mem', os.O_RDONLY)\n"
           "return os.pread(at, 40, world['address']).decode(errors='replace')", victim=True, picky=True),
    Attack("slow a process down", "processes",
           lambda world, result: os.getpriority(os.PRIO_PROCESS, world.victim_pid) == 19,
           "os.setpriority(os.PRIO_PROCESS, world['pid'], 19)", victim=True),
    Attack("limit a process", "processes", lambda world, result: world.victim_files() == 7,
           "import resource\nresource.prlimit(world['pid'], resource.RLIMIT_NOFILE, (7, 7))", victim=True),
    Attack("leave shared memory behind", "processes", lambda world, result: world.segment(),
           CTYPES + "return libc.shmget(world['key'], 4096, 0o1600)"),
    Attack("make namespaces", "processes", lambda world, result: result == 0,
           CTYPES + "return libc.unshare(0x10020000)", picky=True),
    Attack("use io_uring", "processes", nonnegative,
           CTYPES + "return libc.syscall(425, 2, ctypes.create_string_buffer(120))", picky=True),
    Attack("use a key ring", "processes", nonnegative,
           SYSCALL + "return libc.syscall(219 if arm else 250, 0, -3, 1)", picky=True),
    Attack("use userfaultfd", "processes", nonnegative,
           SYSCALL + "return libc.syscall(282 if arm else 323, 1)", picky=True),
    Attack("use performance events", "processes", nonnegative,
           SYSCALL + "held = ctypes.create_string_buffer(128)\nheld[4] = 128\nheld[0] = 1\n"
           "return libc.syscall(241 if arm else 298, held, 0, -1, -1, 0)", picky=True),
    Attack("load BPF", "processes", nonnegative,
           SYSCALL + "import struct\nheld = struct.pack('=IIII', 2, 4, 4, 1) + bytes(112)\n"
           "return libc.syscall(280 if arm else 321, 0, held, 128)", picky=True),
]  # fmt: skip

ENVIRONMENT = [
    Attack("read the environment", "environment", leaked, "return dict(os.environ)"),
    Attack("read the environment by C", "environment", leaked,
           CTYPES + "libc.getenv.restype = ctypes.c_char_p\nreturn (libc.getenv(b'SECRET') or b'').decode()"),
    Attack("read the environment from /proc", "environment", leaked, "return open('/proc/self/environ').read()"),
    Attack("read another process's environment", "environment", leaked,
           "return open(f'/proc/{world[\"pid\"]}/environ').read()", victim=True, picky=True),
]  # fmt: skip

SOON = {"cpu_seconds": 0.15}
ENDLESS = [
    Attack("compute for long", "endlessness", succeeded,
           "import time\nwhile time.process_time() < 0.5:\n    pass\nreturn 'done'", limits=SOON),
    Attack("compute for long in C", "endlessness", succeeded,
           "import time\nwhile time.process_time() < 0.5:\n    sum(range(10_000_000))\nreturn 'done'", limits=SOON),
    Attack("compute for long without signals", "endlessness", succeeded,
           "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
           "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
           "while time.process_time() < 0.5:\n    pass\nreturn 'done'", limits=SOON),
    Attack("compute for long by catching everything", "endlessness", succeeded,
           "import time\nwhile time.process_time() < 0.5:\n    try:\n        while time.process_time() < 0.5:\n"
           "            pass\n    except BaseException:\n        pass\nreturn 'done'", limits=SOON),
    Attack("wait for long", "endlessness", succeeded, "import time\ntime.sleep(0.8)\nreturn 'done'",
           limits={"wall_seconds": 0.3}),
    Attack("wait for long in C", "endlessness", succeeded,
           CTYPES + "libc.usleep(800_000)\nreturn 'done'", limits={"wall_seconds": 0.3}),
    Attack("take memory", "endlessness", succeeded, f"held = b'x' * {BIG}\nreturn 'done'"),
    Attack("take memory little by little", "endlessness", succeeded,
           f"held = []\nwhile len(held) < {BIG >> 20}:\n    held.append(b'x' * (1 << 20))\nreturn 'done'"),
    Attack("map memory", "endlessness", succeeded, f"import mmap\nheld = mmap.mmap(-1, {BIG})\nreturn 'done'"),
    Attack("take memory after raising the limit", "endlessness", succeeded,
           "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
           "except (OSError, ValueError):\n"
           f"    pass\nheld = b'x' * {BIG}\nreturn 'done'"),
    Attack("fill the scratch folder", "endlessness", succeeded,
           "with open('big', 'wb') as file:\n    for _ in range(12):\n        file.write(bytes(range(256)) * 4096)\n"
           "return 'done'", limits={"scratch_mb": 4}),
    Attack("fill the scratch folder with many files", "endlessness", succeeded,
           "for number in range(120):\n    open(str(number), 'wb').write(bytes(range(256)) * 400)\nreturn 'done'",
           limits={"scratch_mb": 4}),
    Attack("answer at length", "endlessness", lambda world, result: len(str(result)) > 2_000_000,
           "return 'x' * 3_000_000"),
    Attack("hold many descriptors", "endlessness", succeeded,
           "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]\nreturn 'done'"),
]  # fmt: skip
HOARD = [
    Attack("take memory in a file without a name", "processes", succeeded,
           "at = os.memfd_create('x')\nfor _ in range(64):\n    os.write(at, bytes(1 << 20))\nreturn 'done'"),
    Attack("start many threads", "processes", succeeded,
           "import threading, time\nfor _ in range(40):\n    threading.Thread(target=time.sleep, args=(0.2,)).start()\n"
           "return 'done'"),
]  # fmt: skip

ATTACKS = FILES + NETWORK + PROCESSES + ENVIRONMENT + ENDLESS + HOARD

HOOK = """
import sys
class Evil:
    def find_spec(self, name, path=None, target=None):
        return None
sys.meta_path.insert(0, Evil())
"""
PATCH = "import json\ndef evil(*arguments, **options):\n    return {'evil': True}\njson.loads = evil\n"


def hooked() -> bool:
    return any(type(finder).__name__ == "Evil" for finder in sys.meta_path)


def patched() -> bool:
    return importlib.import_module("json").loads.__name__ == "evil"
