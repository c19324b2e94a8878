"""Takes from this process what untrusted code must not have: by Linux alone, without privileges, and for good.

    seccomp     only the system calls below: no sockets, no other process, no signals to others, nothing of the kernel's machinery
    Landlock    of the files only those that Python needs, to read, and one folder of its own, to write
    rlimits     memory, processor time, size of files, open files

Standard library only: the file is run by itself, in a process that must not read anything else of the project.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable

# Linux numbers of the calls that Python needs: (x86-64, AArch64); None: the machine has no such call.
CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, None), "select": (23, None),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None),
    "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160), "fsync": (74, 82),
    "fdatasync": (75, 83), "ftruncate": (77, 46), "getcwd": (79, 17), "chdir": (80, 49), "rename": (82, None),
    "mkdir": (83, None), "rmdir": (84, None), "unlink": (87, None), "readlink": (89, None), "umask": (95, 166),
    "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "sigaltstack": (131, 132),
    "arch_prctl": (158, None), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94), "openat": (257, 56),
    "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38), "readlinkat": (267, 78),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99), "dup3": (292, 24),
    "renameat2": (316, 276), "getrandom": (318, 278), "membarrier": (324, 283),
    "statx": (332, 291), "rseq": (334, 293), "faccessat2": (439, 439),
}  # fmt: skip
# Calls of which only some are allowed: numbers, which argument tells, and its allowed values. fcntl could have signals sent to
# others, prlimit64 could change the limits of others.
SOME = (
    ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # fcntl: duplicate, flags
    ((302, 261), 0, (0,)),  # prlimit64: of this process
)
CLONE, CLONE3 = (56, 220), (435, 435)
CLONE_THREAD = 0x10000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # -> place above, what seccomp calls it

# Filters in classic BPF: struct sock_filter. Offsets into struct seccomp_data: number 0, machine 4, arguments from 16 on.
_LOAD, _EQUAL, _ANY_BIT, _END = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_SECCOMP_MODE_FILTER, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 2, 22, 38

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT, _LANDLOCK_VERSION = 444, 445, 446, 1
_READ = 1 << 2 | 1 << 3  # read_file, read_dir
_EXECUTE = 1 << 0
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # write_file, remove_dir, remove_file, make_dir, make_reg
_TRUNCATE, _TRUNCATE_SINCE = 1 << 14, 3
_HANDLED = (1 << 13) - 1  # all of the first version: what is not granted below is refused
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14  # what may be granted on a file


class Unconfined(OSError):
    """The kernel or the machine cannot confine a process; the message says what it lacks."""


_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> list[str]:
    """What this machine lacks for confining code; empty: nothing."""
    lacks = []
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return [f"Linux on x86-64 or AArch64 (this is {platform.system()} on {platform.machine()})"]
    if _landlock_version() < 1:
        lacks.append("Landlock (Linux 5.13 or later, with `landlock` among the security modules)")
    if _libc.prctl(21, 0, 0, 0, 0) < 0:  # PR_GET_SECCOMP
        lacks.append("seccomp")
    return lacks


def limit(memory: int, seconds: int, file_bytes: int) -> None:
    """memory in bytes of address space, seconds of processor time, bytes of the largest file. Cannot be raised again."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def confine(readable: Iterable[str], own: str) -> None:
    """For this process and all that it might start. readable: files and folders; own: the folder that may be written.

    Raises Unconfined; nothing untrusted may be run then.
    """
    if lacks := missing():
        raise Unconfined(errno.ENOSYS, f"this machine lacks {', '.join(lacks)}")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unconfined(ctypes.get_errno(), "the process cannot give up its privileges")
    _restrict_files(readable, own)
    _restrict_calls()


def _landlock_version() -> int:
    return int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION))


def _restrict_files(readable: Iterable[str], own: str) -> None:
    truncate = _TRUNCATE if _landlock_version() >= _TRUNCATE_SINCE else 0
    handled = ctypes.create_string_buffer(struct.pack("=Q", _HANDLED | truncate))
    rules = _called("landlock_create_ruleset", _LANDLOCK_CREATE, handled, ctypes.c_size_t(8), 0)
    try:
        for path in readable:
            _grant(rules, path, _READ | _EXECUTE)
        _grant(rules, own, _READ | _WRITE | truncate)
        _called("landlock_restrict_self", _LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _grant(rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            access &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", access, place))
        _called("landlock_add_rule", _LANDLOCK_ADD, rules, 1, rule, 0)
    finally:
        os.close(place)


def _restrict_calls() -> None:
    place, machine = MACHINES[platform.machine()]
    numbers = sorted(number for calls in CALLS.values() if (number := calls[place]) is not None)
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine),
        (_END, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        # clone3 does not exist, so that threads are made by clone, whose flags can be read
        (_EQUAL, 0, 1, CLONE3[place]),
        (_END, 0, 0, _REFUSE | errno.ENOSYS),
        (_EQUAL, 0, 4, CLONE[place]),
        (_LOAD, 0, 0, 16),
        (_ANY_BIT, 0, 1, CLONE_THREAD),
        (_END, 0, 0, _ALLOW),
        (_END, 0, 0, _REFUSE | errno.EPERM),
    ]
    for calls, argument, values in SOME:
        allowed = [step for value in values for step in ((_EQUAL, 0, 1, value), (_END, 0, 0, _ALLOW))]
        body = [(_LOAD, 0, 0, 16 + 8 * argument), *allowed, (_END, 0, 0, _REFUSE | errno.EPERM)]
        program += [(_EQUAL, 0, len(body), calls[place]), *body]
    for number in numbers:
        program += [(_EQUAL, 0, 1, number), (_END, 0, 0, _ALLOW)]
    program.append((_END, 0, 0, _REFUSE | errno.EPERM))
    packed = b"".join(struct.pack("=HBBI", *step) for step in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))
    if (
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(filters, len(filters)), 0, 0)
        != 0
    ):
        raise Unconfined(ctypes.get_errno(), "seccomp refuses the filter")


def _called(name: str, *arguments: object) -> int:
    result = int(_libc.syscall(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise Unconfined(number, f"{name}: {os.strerror(number)}")
    return result
