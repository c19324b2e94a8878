"""Untrusted code: what it may do, and that every way out of its confinement is closed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.errors import UserError
from shared.sandbox.confine import missing
from shared.sandbox.outside import CallFailed, Sandbox, SandboxLimits

needs_linux = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {missing()}")
LIMITS = SandboxLimits(seconds=1.0)
SOURCE = """
import ctypes, fcntl, json, math, os, re, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def add(a, b): return a + b
def own_file():
    open("note.txt", "w").write("here")
    return open("note.txt").read(), os.listdir(".")
def thread():
    seen = []
    worker = threading.Thread(target=lambda: seen.append(1))
    worker.start(); worker.join()
    return seen
def prints(): print("x" * 10_000); sys.stderr.write("y"); return 1
def environment(): return sorted(os.environ)
def numpy():
    import numpy
    return float(numpy.arange(4).sum())

def fork_bomb():
    while True: os.fork()
def clone3(): return _ok(libc.syscall(435, ctypes.create_string_buffer(88), 88))
def vfork(): return _ok(libc.vfork())
def shell(): subprocess.run(["id"])
def execute(): os.execv("/bin/true", ["true"])
def memory(): return len("x" * 2**31)
def memory_of_many_lists():
    lists = []
    while True: lists.append([0] * 10**6)
def endless():
    while True: pass
def sleeps(): time.sleep(60)
def large_result(): return "x" * 3_000_000
def large_file(): open("large", "w").write("x" * 30_000_000)
def connect(): socket.create_connection(("127.0.0.1", 1), 1)
def unix_socket(): socket.socketpair()
def netlink(): socket.socket(16, 3, 0)
def read(path): return open(path).read()
def write(path): open(path, "w").write("x")
def listing(path): return os.listdir(path)
def symlink(): os.symlink("/etc/passwd", "link"); return open("link").read()
def hard_link(): os.link("/etc/passwd", "link")
def traversal(): return open("../" * 20 + "etc/passwd").read()
def kill_parent(): os.kill(os.getppid(), signal.SIGKILL)
def kill_group(): os.killpg(0, signal.SIGKILL)
def signal_by_file(): fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())
def signal_chosen_by_file(): fcntl.fcntl(3, 10, signal.SIGKILL)
def limits_of_parent(): resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
def raise_limits(): resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))
def trace_parent(): return _ok(libc.ptrace(16, os.getppid(), 0, 0))
def memory_of_parent(): return open(f"/proc/{os.getppid()}/mem", "rb").read(1)
def new_namespace(): return _ok(libc.unshare(0x10000000))
def io_uring(): return _ok(libc.syscall(425, 1, ctypes.create_string_buffer(120)))
def bpf(): return _ok(libc.syscall(321, 0, 0, 0))
def memfd(): return _ok(libc.syscall(319, b"x", 0))
def become_root(): os.setuid(0)
def change_root(): os.chroot(".")
def device(): os.mknod("device", 0o600)
def leave(): os._exit(0)
def leave_politely(): sys.exit(0)
def crash(): ctypes.string_at(0)
def deep(): return deep()
def _ok(result):
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
    return result
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SOURCE, allowed=True, limits=LIMITS) as made:
        yield made


@needs_linux
@pytest.mark.parametrize(
    ("call", "result"),
    [
        (["add", 1, 2], 3),
        (["own_file"], ["here", ["note.txt"]]),
        (["thread"], [1]),
        (["prints"], 1),
        (["numpy"], 6.0),
        (["environment"], ["LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]),
    ],
)
def test_what_graders_need_works(sandbox: Sandbox, call: list[Any], result: Any):
    assert sandbox.call(*call) == result


@needs_linux
@pytest.mark.parametrize(
    "call",
    [
        "fork_bomb", "clone3", "vfork", "shell", "execute", "memory", "memory_of_many_lists", "endless", "sleeps",
        "large_result", "large_file", "connect", "unix_socket", "netlink", "symlink", "hard_link", "traversal", "kill_parent",
        "kill_group", "signal_by_file", "signal_chosen_by_file", "limits_of_parent", "raise_limits", "trace_parent",
        "memory_of_parent", "new_namespace", "io_uring", "bpf", "memfd", "become_root", "change_root", "device", "leave",
        "leave_politely", "crash", "deep",
    ],
)  # fmt: skip
def test_ways_out_are_closed_and_the_next_call_is_answered(sandbox: Sandbox, call: str):
    began = time.monotonic()
    with pytest.raises(CallFailed) as failed:
        sandbox.call(call)
    assert str(failed.value)
    assert time.monotonic() - began < 10
    assert sandbox.call("add", 1, 2) == 3


@needs_linux
def test_files_of_others_are_out_of_reach(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "secret").write_text("hidden")
    for path in (
        str(tmp_path / "secret"),
        "/etc/passwd",
        "/proc/self/environ",
        f"/proc/{os.getpid()}/cmdline",
        __file__,
    ):
        with pytest.raises(CallFailed, match=r"Permission|No such file"):
            sandbox.call("read", path)
    for path in (str(tmp_path / "new"), "/tmp/new", "/dev/shm/new"):
        with pytest.raises(CallFailed, match="Permission"):
            sandbox.call("write", path)
    for path in ("/", "/home", str(tmp_path)):
        with pytest.raises(CallFailed, match="Permission"):
            sandbox.call("listing", path)
    assert not (tmp_path / "new").exists()


@needs_linux
def test_the_operator_allows_it_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="METEOR_SANDBOX") as off:
        Sandbox("x = 1", allowed=False)
    assert off.value.code == "sandbox_off"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox(SOURCE, allowed=True, limits=LIMITS) as sandbox:
        sandbox.call("own_file")
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@needs_linux
def test_a_source_is_run_with_values_and_what_it_raises_is_told():
    source = "assert f(2) == wanted, 'wrong'"
    with Sandbox(source, allowed=True, limits=LIMITS) as sandbox, pytest.raises(CallFailed, match="NameError"):
        sandbox.run(wanted=4)
    with Sandbox(f"def f(x): return 2 * x\n{source}", allowed=True, limits=LIMITS) as sandbox:
        sandbox.run(wanted=4)
        with pytest.raises(CallFailed, match="AssertionError: wrong"):
            sandbox.run(wanted=5)
    with (
        Sandbox("def f(x: broken", allowed=True, limits=LIMITS) as sandbox,
        pytest.raises(CallFailed, match="SyntaxError"),
    ):
        sandbox.run()


def test_a_machine_that_cannot_confine_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UserError, match="riscv64"):
        Sandbox("x = 1", allowed=True)
