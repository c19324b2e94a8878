"""One supervised process: how it is started under a guard, when it counts as ready, what it and its children use."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import psutil

from shared.platform import process_guard
from shared.platform.run_state import identity

State = Literal["starting", "ready", "restarting", "stopped"]
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # after so long the next crash counts as the first


@dataclass
class ProcessSpec:
    """What to run. ready: told the pids of the process's family, says whether it does its work."""

    name: str
    argv: list[str]
    env: dict[str, str]
    ready: Callable[[set[int]], bool]
    port: int | None = None


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants, those alive."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(pid: int) -> int:
    """Bytes that a process and its descendants take together; shared pages are divided among those who share them."""
    total = 0
    for process in family(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
            continue
    return total


@dataclass
class Child:
    """A ProcessSpec that runs. start, poll and stop are called by one thread at a time."""

    spec: ProcessSpec
    log_file: Path
    state: State = "stopped"
    restarts: int = 0
    since: float = field(default_factory=time.time)
    last_exit: int | None = None
    created: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _due: float = 0.0
    _crashes: int = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def pids(self) -> set[int]:
        return {process.pid for process in family(self.pid)} if self.pid else set()

    def start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log() as log:
            self._process = subprocess.Popen(
                process_guard.command(self.spec.argv),
                stdin=subprocess.PIPE,  # held open by us; its end tells the guard that we are gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.spec.env,
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, which then ends them in order
            )
        started = identity(self._process.pid)
        self.created = started[1] if started else time.time()
        self.state, self.since = "starting", time.time()

    def poll(self) -> str | None:
        """Move on by what happened: ready, ended, due again. Returns a remark when there is news."""
        if self.state == "stopped" or self._process is None:
            return None
        if self.state == "restarting":
            if time.monotonic() >= self._due:
                self.restarts += 1
                self.start()
            return None
        code = self._process.poll()
        if code is not None:
            return self._ended(code)
        if self.state == "starting" and self.spec.ready(self.pids):
            self.state = "ready"
            return f"{self.spec.name} is ready after {time.time() - self.since:.0f} s"
        return None

    def _ended(self, code: int) -> str:
        if time.time() - self.since > STEADY_S:
            self._crashes = 0
        pause = BACKOFF_S[min(self._crashes, len(BACKOFF_S) - 1)]
        self._crashes += 1
        self.last_exit, self.state, self._due = code, "restarting", time.monotonic() + pause
        return f"{self.spec.name} ended with {code}; starting it again in {pause:.0f} s. Its log: {self.log_file}"

    def ask_to_stop(self) -> None:
        self.state = "stopped"
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> bool:
        """Whether it is gone by the deadline (monotonic). Closes the pipe."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        if self._process.stdin:
            self._process.stdin.close()
        return True

    def kill(self) -> None:
        """The guard and all it holds, at once."""
        for process in reversed(family(self.pid) if self.pid else []):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def _log(self) -> IO[bytes]:
        return self.log_file.open("ab")


def last_words(log_file: Path, count: int = 3) -> str:
    """The last lines of a process's log; empty where there is none."""
    if not log_file.exists():
        return ""
    with log_file.open("rb") as file:
        file.seek(max(0, log_file.stat().st_size - 4000))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-count:])
