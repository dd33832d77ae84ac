"""The system calls that sandboxed code may make, as a seccomp filter: a list of what is allowed, not of what is not.

Everything else answers ENOSYS, which C libraries take as an older kernel's and do without: no sockets, no fork, no
signals, no ptrace, no namespaces, no mounts, no keys, no BPF, no io_uring, no memfd, no links, no chmod, no new limits.
"""

from __future__ import annotations

import errno
import platform
import struct

_X86_64, _AARCH64 = "x86_64", "aarch64"
_AUDIT_ARCH = {_X86_64: 0xC000003E, _AARCH64: 0xC00000B7}

# name:x86_64:aarch64, as in the kernel's unistd.h; - where the architecture has no such call.
_ALLOWED = """
read:0:63 write:1:64 close:3:57 lseek:8:62 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 ftruncate:77:46
fsync:74:82 fdatasync:75:83 fallocate:285:47 fadvise64:221:223 copy_file_range:326:285 sendfile:40:71 flock:73:32
open:2:- openat:257:56 creat:85:- stat:4:- lstat:6:- fstat:5:80 newfstatat:262:79 statx:332:291 statfs:137:43
fstatfs:138:44 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78 getdents64:217:61
getcwd:79:17 chdir:80:49 fchdir:81:50 umask:95:166 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:-
mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35
dup:32:23 dup2:33:- dup3:292:24 close_range:436:436 pipe:22:- pipe2:293:59 eventfd2:290:19 poll:7:- ppoll:271:73
select:23:- pselect6:270:72 epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22
mmap:9:222 munmap:11:215 mremap:25:216 mprotect:10:226 madvise:28:233 msync:26:227 brk:12:214 membarrier:324:283
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigtimedwait:128:137
sigaltstack:131:132 restart_syscall:219:128 pause:34:- alarm:37:- getitimer:36:102 setitimer:38:103
nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:-
times:100:153 getrusage:98:165 getrlimit:97:163 sysinfo:99:179 uname:63:160 getrandom:318:278 getcpu:309:168
sched_yield:24:124 sched_getaffinity:204:123 futex:202:98 set_robust_list:273:99 set_tid_address:218:96 rseq:334:293
arch_prctl:158:- getpid:39:172 gettid:186:178 getppid:110:173 getuid:102:174 geteuid:107:175 getgid:104:176
getegid:108:177 getgroups:115:158 wait4:61:260 waitid:247:95 exit:60:93 exit_group:231:94
"""

_EXECVE = "execve:59:221"
# Allowed for these values of the argument whose number stands first.
_BY_ARGUMENT = {
    "ioctl:16:29": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIO*CLEX
    "fcntl:72:25": (
        1,
        (0, 1, 2, 3, 4, 5, 6, 7, 1030),
    ),  # all about a descriptor, its flags, locks; not who is signalled
    "prctl:157:167": (0, (15, 16)),  # PR_SET_NAME PR_GET_NAME
}
_PRLIMIT64 = "prlimit64:302:261"
_CLONE = "clone:56:220"
_THREAD, _NAMESPACES = 0x00010000, 0x7E020080  # CLONE_THREAD; CLONE_NEW* together

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, ALU|AND|K, JMP|JEQ|K, RET|K
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.ENOSYS
_REFUSAL = (_RETURN, 0, 0, _REFUSE)
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def supported() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in _AUDIT_ARCH


def program(*, threads: bool, execve: bool) -> bytes:
    """The filter as an array of `struct sock_filter`.

    `threads` lets the code start threads. `execve` is for a filter that is loaded before the interpreter is.
    """
    machine = platform.machine()
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for call in [*_ALLOWED.split(), *([_EXECVE] if execve else [])]:
        if (number := _number(call, machine)) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for call, (argument, values) in _BY_ARGUMENT.items():
        body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
        for value in values:
            body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        lines += _only(call, machine, body)
    # Reading limits: the pointer to new ones is null, both halves of it.
    new = [line for half in (0, 4) for line in ((_LOAD, 0, 0, _ARGUMENTS + 16 + half), (_EQUAL, 1, 0, 0), _REFUSAL)]
    lines += _only(_PRLIMIT64, machine, [*new, (_RETURN, 0, 0, _ALLOW)])
    if threads:
        flags = [(_LOAD, 0, 0, _ARGUMENTS), (_AND, 0, 0, _THREAD | _NAMESPACES)]
        lines += _only(_CLONE, machine, [*flags, (_EQUAL, 0, 1, _THREAD), (_RETURN, 0, 0, _ALLOW)])
    lines.append(_REFUSAL)
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _only(call: str, machine: str, body: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`body` for one call, then a refusal; the next check otherwise."""
    number = _number(call, machine)
    assert number is not None
    body = [*body, _REFUSAL]
    return [(_EQUAL, 0, len(body), number), *body]


def _number(call: str, machine: str) -> int | None:
    number = call.split(":")[1 if machine == _X86_64 else 2]
    return None if number == "-" else int(number)
