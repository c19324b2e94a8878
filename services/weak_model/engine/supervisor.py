"""Keeps one server alive: start, wait, watch, start again. Independent of vLLM: any command with a readiness check will do.

STARTING -> READY -> (the server dies) -> RESTARTING -> STARTING ...
READY -> (another model is scheduled) -> STARTING
READY -> (a training wants the device) -> LENT -> (it is returned) -> READY where the server slept, else STARTING
STARTING -> (fails `attempts` times in a row) -> FAILED, or back to the first model
every state -> (stop) -> STOPPED
"""

import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from services.weak_model.engine.answer_probe import AnswerProbe
from services.weak_model.engine.model_scheduler import ModelScheduler
from services.weak_model.engine.sleep import SleepControl
from services.weak_model.engine.stoppable import Stopped, unless_stopped
from services.weak_model.engine.vllm import Launch, lacks_sleep_mode
from services.weak_model.settings import EngineSettings
from shared.contracts.errors import FatalError, TransientError
from shared.platform.guarded_process import GuardedProcess
from shared.platform.log import get_logger

log = get_logger(__name__)
T = TypeVar("T")
LOG_LINES = 400
END_S = 8.5  # the guard gives the server 7 s and then kills it with its family
STEADY_S = 60.0  # a server that lived this long resets the pause before a restart


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    LENT = "lent"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Timing:
    """All in seconds. start: for one start. silence: without an answer, until the server is replaced. pause: before a
    restart, doubling up to max_pause. poll: between two checks. report: between two log lines while it starts."""

    start: float
    attempts: int
    pause: float
    max_pause: float
    silence: float
    poll: float = 0.25
    report: float = 5.0

    @classmethod
    def of(cls, settings: EngineSettings) -> "Timing":
        return cls(
            start=settings.start_timeout.total_seconds(),
            attempts=settings.attempts,
            pause=settings.pause.total_seconds(),
            max_pause=settings.max_pause.total_seconds(),
            silence=settings.silence.total_seconds(),
        )


class EngineServer:
    """One server under the guard. Its output goes to our stderr; the last lines are kept to explain its end."""

    def __init__(self, launch: Launch):
        self.started = time.monotonic()
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.process = GuardedProcess(launch.argv, launch.environment, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._copy_output, name="server-log", daemon=True)
        self._reader.start()

    def _copy_output(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip())
            sys.stderr.buffer.write(line)
            sys.stderr.flush()

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    @property
    def exit_code(self) -> int | None:
        return self.process.exit_code

    def read_rest(self) -> None:
        """Wait for the last lines of a server that ended."""
        if self.exit_code is not None:
            self._reader.join(1.0)

    def end(self, ready: bool) -> None:
        """End the server and its family: within 9 s when it is ready, within 3 s while it starts."""
        if ready:
            self.process.terminate()
        else:
            self.process.hang_up()
        if not self.process.wait(END_S):
            log.warning("the server's guard does not end", pid=self.process.pid)
        self.process.hang_up()
        self.read_rest()


class ExternalEngine:
    """A server that others run: it is neither started nor ended here, only observed.

    is_ready: whether the server answers; may block for a few seconds.
    """

    def __init__(self, is_ready: Callable[[], bool], timing: Timing):
        self.is_ready = is_ready
        self.timing = timing
        self.state = EngineState.STARTING
        self._stopping = False

    def stop(self) -> None:
        """Safe in a signal handler: run() returns within a fraction of a second."""
        self._stopping = True

    def run(self) -> int:
        """Until stop(). Returns the process's exit code."""
        while not self._stopping:
            state = EngineState.READY if self.is_ready() else EngineState.STARTING
            if state != self.state:
                self.state = state
                log.info("engine answers" if state == EngineState.READY else "engine does not answer", state=state)
            self._sleep(self.timing.report)
        self.state = EngineState.STOPPED
        return 0

    def _sleep(self, seconds: float) -> None:
        """time.sleep in small parts: an Event that is set in a signal handler can deadlock."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


class EngineSupervisor(ExternalEngine):
    """Runs a server of our own.

    launch: the command for a model. is_busy: whether the server computes anything. explain: a readable reason from its
    exit code and last lines. is_hopeless: whether these lines say that another start would fail alike. probe: tells whether answers are as
    before. sleep: where the device is lent to trainings.
    """

    def __init__(
        self,
        launch: Callable[[str], Launch],
        is_ready: Callable[[], bool],
        is_busy: Callable[[], bool],
        explain: Callable[[int | None, list[str]], str],
        timing: Timing,
        scheduler: ModelScheduler,
        is_hopeless: Callable[[list[str]], bool] = lambda lines: False,
        probe: AnswerProbe | None = None,
        sleep: SleepControl | None = None,
    ):
        super().__init__(is_ready, timing)
        self.probe = probe
        self.sleep = sleep
        self.is_hopeless = is_hopeless
        self.launch = launch
        self.is_busy = is_busy
        self.explain = explain
        self.scheduler = scheduler
        self.starts = 0
        self.failed = 0  # servers that died or did not start
        self._was_ready = False  # the present server
        self.sleeps = 0
        self.wakes = 0

    def run(self) -> int:
        """Until stop(), or until the server cannot be started. Returns the process's exit code."""
        failures, pause = 0, self.timing.pause
        while not self._stopping:
            if self.scheduler.lent:  # no server holds the device
                self._wait_for_return()
                continue
            self.state, self.starts = EngineState.STARTING, self.starts + 1
            model = self.scheduler.start_begins()
            try:
                server = EngineServer(self.launch(model))
            except FatalError as error:  # its files were removed after the request
                if not self.scheduler.start_failed(error.message):
                    raise
                continue
            self._was_ready = False
            try:
                failure = self._start(server) or self._watch(server)
            except Stopped:
                break
            finally:
                was_ready = self._was_ready
                self.state = EngineState.RESTARTING
                server.end(ready=was_ready)
            if self._stopping:
                break
            if not was_ready and self._must_not_sleep(server):
                continue
            failures = 0 if was_ready or failure is None else failures + 1
            self.failed += failure is not None
            if failure is None:
                turns_to = "a training" if self.scheduler.lent else self.scheduler.serving
                log.info("engine swaps", served=model, next=turns_to)
                continue
            hopeless = not was_ready and server.exit_code is not None and self.is_hopeless(list(server.lines))
            if failures >= self.timing.attempts or hopeless:
                log.error("the engine cannot be started", model=model, attempts=failures, reason=failure)
                if not self.scheduler.start_failed(failure):
                    self.state = EngineState.FAILED
                    return 1
                failures = 0
                continue
            if was_ready:
                self.scheduler.server_died()
            if was_ready and server.age > STEADY_S:
                pause = self.timing.pause
            log.error("the engine was lost; restarting it", reason=failure, failed_starts=failures, pause_s=pause)
            self._sleep(pause)
            pause = min(2 * pause, self.timing.max_pause)
        self.state = EngineState.STOPPED
        return 0

    def _start(self, server: EngineServer) -> str | None:
        """Wait until it answers. Returns the failure, or None when it is ready or stop() was called."""
        reported = 0.0
        log.info("engine starting", model=self.scheduler.serving, start=self.starts, pid=server.process.pid)
        while not self._stopping:
            if server.exit_code is not None:
                return self._failure(server, "ended while it started")
            if self.scheduler.lent:  # a training has the device since before this process was started
                return None
            if self.is_ready():
                return self._ready(server)
            if server.age > self.timing.start:
                return self._failure(server, f"not ready after {self.timing.start:.0f} s")
            if server.age - reported >= self.timing.report:
                reported = server.age
                log.info("engine starting", elapsed_s=round(reported))
            self._sleep(self.timing.poll)
        return None

    def _ready(self, server: EngineServer) -> str | None:
        """A server that answers is served if it answers as before."""
        model = self.scheduler.serving
        sleep, probe = self.sleep, self.probe
        if sleep is not None:
            self._wait_for(sleep.look)
            self.scheduler.sleep_mode = sleep.mode
        if probe is not None and (difference := self._wait_for(lambda: probe.started(model))):
            return self._corrupted(difference)
        self.state, self._was_ready = EngineState.READY, True
        if self.scheduler.start_succeeded():
            log.info("engine ready", model=model, seconds=round(server.age, 1))
        return None

    def _watch(self, server: EngineServer) -> str | None:
        """Returns the failure when the server dies or stops answering; None for a swap or after stop()."""
        answered = asked = time.monotonic()
        while not self._stopping and self.state == EngineState.READY:
            if server.exit_code is not None:
                return self._failure(server, f"died after {server.age:.0f} s")
            now = time.monotonic()
            if now - asked >= self.timing.report:
                asked = now
                if self.is_ready():
                    answered = time.monotonic()
                elif now - answered > self.timing.silence:
                    return self._failure(server, f"answered nothing for {now - answered:.0f} s")
                if self.probe is not None and (difference := self.probe.look(self.scheduler.serving)):
                    return self._corrupted(difference)
            if self.scheduler.lent or self.scheduler.should_swap(self.is_busy):
                if not self.scheduler.lent or self.sleep is None:
                    return None
                if self.probe is not None and (difference := self._wait_for(self.probe.rest)):
                    return self._corrupted(difference)
                if not self._wait_for(self.sleep.sleep):
                    return None
                failure = self._asleep(server, self.sleep)
                if failure or self.state != EngineState.READY:
                    return failure
                answered = asked = time.monotonic()
            self._sleep(self.timing.poll)
        return None

    def _asleep(self, server: EngineServer, sleep: SleepControl) -> str | None:
        """Until the device is returned and the server is awake again. READY then; else the server is to end: it failed, another model is
        next, or stop() was called."""
        model, probe = self.scheduler.serving, self.probe
        while True:
            self.sleeps += 1
            log.info("engine sleeps", model=model)
            self._wait_for_return(server)
            if self._stopping or self.scheduler.serving != model:
                return None
            if server.exit_code is not None:
                return self._failure(server, "died asleep")
            began = time.monotonic()
            try:
                self._wait_for(sleep.wake)
                if probe is not None and (difference := self._wait_for(lambda: probe.woke(model))):
                    return self._corrupted(difference)
                if self.scheduler.woke():
                    self._wait_for(sleep.open)
                    break
            except TransientError as error:
                return self._failure(server, f"did not wake up, {error.message}")
            if not self._wait_for(sleep.sleep):  # the device was lent again while the server woke
                return None
        self.state, self.wakes = EngineState.READY, self.wakes + 1
        log.info("engine awake", model=model, seconds=round(time.monotonic() - began, 1))
        return None

    def _wait_for(self, call: Callable[[], T]) -> T:
        """A call to the server that may take minutes. Raises Stopped after stop()."""
        return unless_stopped(call, lambda: self._stopping)

    def _wait_for_return(self, asleep: EngineServer | None = None) -> None:
        self.state = EngineState.LENT
        self.scheduler.freed()
        log.info("the engine's device is lent to a training", asleep=asleep is not None)
        while not self._stopping and not self.scheduler.loan_is_over():
            self._sleep(self.timing.poll)
        self.state = EngineState.STARTING

    def _must_not_sleep(self, server: EngineServer) -> bool:
        """Whether the server did not start because vLLM has no sleep mode here; the next one is started without."""
        if self.sleep is None or self.sleep.mode.available is False or not lacks_sleep_mode(server.lines):
            return False
        self.sleep.refused("vLLM has no sleep mode on this device")
        self.scheduler.sleep_mode = self.sleep.mode
        log.warning("the engine cannot sleep; it is stopped during trainings", reason=self.sleep.mode.reason)
        return True

    def _corrupted(self, difference: str) -> str:
        log.error("the engine computes something else than before; it is restarted", difference=difference)
        return difference

    def _failure(self, server: EngineServer, event: str) -> str:
        server.read_rest()
        return f"{event} (exit code {server.exit_code}): {self.explain(server.exit_code, list(server.lines))}"


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
