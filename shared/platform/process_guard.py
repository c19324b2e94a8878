"""A small parent process for engines, trainings and services: they end when the guard's own parent dies.

    python -m shared.platform.process_guard -- command args...

The guard reads its standard input, a pipe that the parent holds open and never writes to; end of file means that the
parent has died (by SIGKILL too). It adopts orphans (PR_SET_CHILD_SUBREAPER), so that it also kills grandchildren in
other sessions, such as vLLM's EngineCore. PR_SET_PDEATHSIG alone is not enough: it follows the parent's *thread* and does
not reach grandchildren.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 7.0  # so that every service is gone within 10 s of a SIGTERM


def command(argv: list[str]) -> list[str]:
    """The command line that runs argv under a guard. Start it with stdin=PIPE and keep the pipe open (GuardedProcess)."""
    return [sys.executable, "-m", "shared.platform.process_guard", "--", *argv]


def die_with_parent() -> None:
    """Of the calling process: the kernel kills it when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _descendants() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    """Also for a process that ended during the check."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _reap_orphans(child: subprocess.Popen) -> None:
    """Reap adopted processes that have ended; Popen reaps the child itself."""
    for process in psutil.Process().children():
        if process.pid != child.pid and _is_zombie(process):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def _end(child: subprocess.Popen, grace_s: float) -> None:
    """SIGTERM to the child, then SIGKILL to the rest of its family."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    deadline = time.monotonic() + 5
    while (left := _descendants()) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)
    _reap_orphans(child)


def main() -> int:
    argv = sys.argv[1:]
    if argv[:1] == ["--"]:
        argv = argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    stop_r, stop_w = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stop_w, b"x"))
    child_r, child_w = os.pipe()
    os.set_blocking(child_w, False)
    signal.signal(signal.SIGCHLD, lambda *_: os.write(child_w, b"x"))
    # preexec_fn is safe here: the guard has one thread. A group of its own: Ctrl-C reaches the guard, which ends the child
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, process_group=0)
    grace = GRACE_S
    while child.poll() is None:
        ready, _, _ = select.select([0, stop_r, child_r], [], [], 5.0)
        if 0 in ready and not os.read(0, 1):
            grace = 2.0  # the parent has died or closed the pipe
            break
        if stop_r in ready:
            break
        if child_r in ready:
            os.read(child_r, 4096)
            _reap_orphans(child)
    _end(child, grace)
    code = child.returncode or 0
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
