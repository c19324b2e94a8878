"""The background process behind `meteor up`. It holds the runner; when it ends, all processes end.

    python -m services.local.supervisor DATA [NAME ...]

It gets its settings from the environment, so no secret is part of a command line.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from services.local.supervisor.plan import python_path
from services.local.supervisor.processes import family
from services.local.supervisor.runner import Runner
from shared.contracts.errors import MeteorError, UserError
from shared.platform import run_state
from shared.platform.process_guard import PR_SET_CHILD_SUBREAPER
from shared.platform.run_state import identity, is_alive

DOWN_S = 15.0
STRAY_S = 5.0
FAILED = "cannot start: "


class CannotStart(UserError):
    code = "cannot_start"


def serve(data: Path, names: list[str] | None) -> int:
    """Run until SIGTERM or SIGINT."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a killed guard leaves behind becomes ours, to be found
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runner = Runner(data, say=_log)
    try:
        runner.start(names, wait_s=None)
    except MeteorError as error:
        _log(f"{FAILED}{error}")
        return 1
    while not stop.wait(2.0):
        _end_strays(runner)
    _log("stopping")
    runner.stop()
    _log("stopped")
    return 0


def _end_strays(runner: Runner) -> None:
    """Kill what a guard that died left to us. Only what is older than a few seconds: a new guard is not known at once."""
    adopted = [process for process in psutil.Process().children() if process.create_time() < time.time() - STRAY_S]
    guards = {child.pid for child in list(runner.children.values())}
    for process in adopted:
        if process.pid in guards:
            continue
        for member in reversed(family(process.pid)):
            _kill(member)
        with contextlib.suppress(ChildProcessError):  # was one of the guards, and the runner has seen it end
            os.waitpid(process.pid, 0)
            _log(f"ended a stray process {process.pid}")


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def launch(data: Path, names: Iterable[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Start the supervisor as a process of its own session and return its pid once it started its children.

    Raises CannotStart with the reason (a port in use, a model that is missing, a folder in use).
    """
    data = data.resolve()
    log = data / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services.local.supervisor.main", str(data), *(names or [])]
    with log.open("ab") as file:
        before = file.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(os.environ) | dict(env or {}) | {"PYTHONPATH": python_path()},
        )
    while child.poll() is None:
        state = run_state.read(data)
        if state is not None and state.supervisor == child.pid:
            return child.pid
        time.sleep(0.1)
    with log.open("rb") as file:
        file.seek(before)
        words = file.read().decode(errors="replace").strip()
    raise CannotStart(words.rpartition(FAILED)[2] if FAILED in words else words[-1500:])


def shut_down(data: Path) -> int:
    """Stop what runs on a data folder, in at most 15 s, and see to it that nothing is left. Returns how many ended."""
    run = run_state.read(data)
    if run is None:
        return 0
    deadline = time.monotonic() + DOWN_S
    pids = [run.supervisor] if run.alive else []
    pids += [row.pid for row in run.processes if row.pid and is_alive(row.pid, row.created)]
    everyone = {identity(process.pid) for pid in pids for process in family(pid)} - {None}
    if run.alive:
        os.kill(run.supervisor, signal.SIGTERM)
    while left := [who for who in everyone if who and is_alive(*who)]:
        if time.monotonic() > deadline or (not run.alive and time.monotonic() > deadline - DOWN_S + 10):
            for pid, _ in left:
                _kill(psutil.Process(pid))
        time.sleep(0.1)
    run_state.path(data).unlink(missing_ok=True)
    return len(everyone)


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), sys.argv[2:] or None))
