"""Keeps one server alive: start, wait, watch, start again. Knows no vLLM; any command with any readiness check will do.

STARTING -> READY -> (the server dies) -> PAUSING -> STARTING ...
READY -> (another model is chosen) -> STARTING
STARTING -> (fails `attempts` times in a row) -> FAILED, or with a model that was swapped in: back to the first one
every state -> (stop) -> STOPPED
"""

import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from services.weak_model.engine.model_scheduler import ModelScheduler
from services.weak_model.engine.vllm import Launch
from services.weak_model.settings import EngineSettings
from shared.contracts.errors import FatalError
from shared.platform import process_guard
from shared.platform.log import get_logger

log = get_logger(__name__)
KEPT_LINES = 400
LEAVE_S = 8.5  # the guard gives the server 7 s and then kills it with all of its family
STEADY_S = 60.0  # a server that lived this long starts the pauses from the shortest again


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"
    STOPPED = "stopped"
    FAILED = "failed"


class Patience(NamedTuple):
    """All in seconds. look: between two looks at the server; say: between two lines of log while it starts."""

    start: float
    attempts: int
    pause: float
    max_pause: float
    silence: float
    look: float = 0.25
    say: float = 5.0

    @classmethod
    def of(cls, settings: EngineSettings) -> "Patience":
        return cls(
            start=settings.start_timeout.total_seconds(),
            attempts=settings.attempts,
            pause=settings.pause.total_seconds(),
            max_pause=settings.max_pause.total_seconds(),
            silence=settings.silence.total_seconds(),
        )


class EngineChild:
    """One server under the guard."""

    def __init__(self, launch: Launch):
        self.started = time.monotonic()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.process = subprocess.Popen(
            process_guard.command(launch.argv),
            env=launch.environment,
            stdin=subprocess.PIPE,  # held open: its end tells the guard that we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._pass_on, name="server-log", daemon=True)
        self._reader.start()

    def _pass_on(self) -> None:
        """The server's output goes to our stderr; the last lines are kept to explain its end."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self.lines.append(raw.decode("utf-8", "replace").rstrip())
            sys.stderr.buffer.write(raw)
            sys.stderr.flush()

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    @property
    def exit_code(self) -> int | None:
        return self.process.poll()

    def settle(self) -> None:
        """Let the last lines of a server that ended arrive."""
        if self.process.poll() is not None:
            self._reader.join(1.0)

    def end(self, at_work: bool) -> None:
        """The server and all that it started are gone: within 9 s when it is at work, else (it still starts) within 3 s."""
        assert self.process.stdin is not None
        if at_work:
            self.process.terminate()
        else:
            self.process.stdin.close()
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            log.warning("the server's guard does not end", pid=self.process.pid)
        self.process.stdin.close()
        self.settle()


class WatchedEngine:
    """A server that others run: nothing is started or ended here, its state is told.

    ready: asked again and again whether the server answers; may block a few seconds.
    """

    def __init__(self, ready: Callable[[], bool], patience: Patience):
        self.ready = ready
        self.patience = patience
        self.state = EngineState.STARTING
        self._stopping = False

    def stop(self) -> None:
        """Safe in a signal handler: run() sees it within a fraction of a second."""
        self._stopping = True

    def run(self) -> int:
        """Until stop(). Returns the process's exit code."""
        while not self._stopping:
            state = EngineState.READY if self.ready() else EngineState.STARTING
            if state != self.state:
                self.state = state
                log.info("engine answers" if state == EngineState.READY else "engine does not answer", state=state)
            self._sleep(self.patience.say)
        self.state = EngineState.STOPPED
        return 0

    def _sleep(self, seconds: float) -> None:
        """time.sleep in small parts. (Event.wait would be shorter, but setting an event in a signal handler can deadlock.)"""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


class Engine(WatchedEngine):
    """A server of our own. launch: how it is started with a model; busy: whether it computes anything just now;
    explain: makes a person's sentence of its exit code and its last lines.
    """

    def __init__(
        self,
        launch: Callable[[str], Launch],
        ready: Callable[[], bool],
        busy: Callable[[], bool],
        explain: Callable[[int | None, list[str]], str],
        patience: Patience,
        choice: ModelScheduler,
    ):
        super().__init__(ready, patience)
        self.launch = launch
        self.busy = busy
        self.explain = explain
        self.choice = choice
        self.starts = 0

    def run(self) -> int:
        """Until stop() or until the server cannot be started. Returns the process's exit code."""
        failures, pause = 0, self.patience.pause
        while not self._stopping:
            self.state, self.starts = EngineState.STARTING, self.starts + 1
            model = self.choice.begins()
            try:
                child = EngineChild(self.launch(model))
            except FatalError as error:  # its files were removed since it was asked for
                if not self.choice.could_not_start(error.message):
                    raise
                continue
            try:
                failure = self._start(child) or self._watch(child)
            finally:
                was_ready = self.state == EngineState.READY
                self.state = EngineState.PAUSING
                child.end(at_work=was_ready)
            if self._stopping:
                break
            failures = 0 if was_ready else failures + 1
            if failure is None:
                log.info("engine swaps", served=model, next=self.choice.serving)
                continue
            if failures >= self.patience.attempts:
                log.error("the engine cannot be started", model=model, attempts=failures, reason=failure)
                if not self.choice.could_not_start(failure):
                    self.state = EngineState.FAILED
                    return 1
                failures = 0
                continue
            if was_ready:
                self.choice.lost()
            if was_ready and child.age > STEADY_S:
                pause = self.patience.pause
            log.error("the engine was lost; starting it again", reason=failure, failed_starts=failures, pause_s=pause)
            self._sleep(pause)
            pause = min(2 * pause, self.patience.max_pause)
        self.state = EngineState.STOPPED
        return 0

    def _start(self, child: EngineChild) -> str | None:
        """Wait until it answers. Returns what went wrong, or None when it is ready (or we are to stop)."""
        said = 0.0
        log.info("engine starting", model=self.choice.serving, start=self.starts, pid=child.process.pid)
        while not self._stopping:
            if child.exit_code is not None:
                return self._why(child, "ended while it started")
            if self.ready():
                self.state = EngineState.READY
                self.choice.is_ready()
                log.info("engine ready", model=self.choice.serving, seconds=round(child.age, 1))
                return None
            if child.age > self.patience.start:
                return self._why(child, f"not ready after {self.patience.start:.0f} s")
            if child.age - said >= self.patience.say:
                said = child.age
                log.info("engine starting", elapsed_s=round(said))
            self._sleep(self.patience.look)
        return None

    def _watch(self, child: EngineChild) -> str | None:
        """Until it dies or falls silent; None when another model is chosen or we are to stop."""
        answered = asked = time.monotonic()
        while not self._stopping:
            if child.exit_code is not None:
                return self._why(child, f"died after {child.age:.0f} s")
            now = time.monotonic()
            if now - asked >= self.patience.say:
                asked = now
                if self.ready():
                    answered = time.monotonic()
                elif now - answered > self.patience.silence:
                    return self._why(child, f"answered nothing for {now - answered:.0f} s")
            if self.choice.should_swap(self.busy):
                return None
            self._sleep(self.patience.look)
        return None

    def _why(self, child: EngineChild, event: str) -> str:
        child.settle()
        return f"{event} (exit code {child.exit_code}): {self.explain(child.exit_code, list(child.lines))}"


def check_port(host: str, port: int) -> None:
    """Raises FatalError when another program listens there: its answers would be taken for our engine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise FatalError(
                f"port {port} on {host} cannot be used: {error.strerror}; set METEOR_ENGINE_PORT or "
                "METEOR_ENGINE_CONTROL_PORT",
                code="engine_port",
            ) from error
