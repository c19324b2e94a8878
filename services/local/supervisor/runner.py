"""Start processes, keep them alive, stop them: everything that METEOR is, on one machine without Docker.

with Runner(Path(".meteor")) as runner:
    runner.start(["broker", "gateway", "api"])
    ... runner.urls["api"] ...
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from services.local.supervisor import ports
from services.local.supervisor.plan import ProcessPlan, make_plan, migrate, moved
from services.local.supervisor.processes import Child, last_words
from shared.artifacts.store import write_atomically
from shared.contracts.errors import UserError
from shared.platform import run_state
from shared.platform.run_state import ProcessState, RunState, identity

LOOK_S = 0.25
BROKER_S = 20.0
STOP_S, BROKER_STOP_S = 8.0, 1.5  # a guard gives its child 7 s
KEPT_REMARKS = 30


class AlreadyRunning(UserError):
    code = "already_running"


class NotReady(UserError):
    code = "not_ready"


class Runner:
    """One run on one data folder. env: on top of this process's environment. say: told every piece of news."""

    def __init__(self, data: Path, env: Mapping[str, str] | None = None, say: Callable[[str], None] = lambda _: None):
        self.data = data.resolve()
        self.environment = dict(os.environ) | dict(env or {})
        self.children: dict[str, Child] = {}
        self.remarks: list[str] = []
        self._say = say
        self._plan: ProcessPlan | None = None
        self._lock_file: IO[str] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Name of a process -> its address (without /v1), for those that listen over HTTP."""
        return dict(self._plan.urls) if self._plan else {}

    def env_of(self, name: str) -> dict[str, str]:
        """The environment that a process was started with."""
        return dict(self.children[name].spec.env)

    @property
    def ready(self) -> bool:
        return bool(self.children) and all(child.state == "ready" for child in self.children.values())

    def start(self, names: Iterable[str] | None = None, wait_s: float | None = 120.0) -> None:
        """Start processes (None: all) and wait until each does its work; wait_s None returns at once.

        Raises AlreadyRunning, PortTaken, ModelRefused, and NotReady (after stopping everything again).
        """
        self._claim_folder()
        try:
            self._plan = make_plan(self.data, names, self.environment)
            for remark in self._plan.remarks:
                self._remark(remark)
            migrate(self._plan)
            for spec in self._plan.specs:
                self.children[spec.name] = Child(spec, self.data / "logs" / f"{spec.name}.log")
            self._start_broker()
            for child in self.children.values():
                if child.state == "stopped":
                    child.start()
        except BaseException:
            self.stop()
            raise
        self._write()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()
        if wait_s is not None:
            self.wait_ready(wait_s)

    def wait_ready(self, timeout_s: float) -> None:
        """Raises NotReady, with the last lines of the logs, when some process is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not self.ready:
            if time.monotonic() > deadline:
                late = [child for child in self.children.values() if child.state != "ready"]
                words = "\n".join(f"{child.spec.name} ({child.state}):\n{last_words(child.log_file)}" for child in late)
                self.stop()
                raise NotReady(f"not ready after {timeout_s:.0f} s: {words}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop everything within 10 s: the broker last, so that workers can say goodbye. May be called twice."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        others = [child for name, child in self.children.items() if name != "broker"]
        _stop(others, STOP_S)
        _stop([child for name, child in self.children.items() if name == "broker"], BROKER_STOP_S)
        self.children.clear()
        if self._lock_file is not None:
            run_state.path(self.data).unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None
        self._stopping.clear()

    def state(self) -> RunState:
        me = identity(os.getpid())
        assert me is not None
        rows = [_row(child) for child in list(self.children.values())]
        return RunState(
            supervisor=me[0], created=me[1], ready=self.ready, processes=rows, urls=self.urls, remarks=self.remarks
        )

    def _claim_folder(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        file = (self.data / "run.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            running = run_state.read(self.data)
            who = f" (pid {running.supervisor})" if running else ""
            raise AlreadyRunning(f"{self.data} is in use by another run{who}; `meteor down` stops it") from error
        self._lock_file = file

    def _start_broker(self) -> None:
        """First and alone: everything else connects to it at once."""
        child = self.children.get("broker")
        if child is None:
            return
        child.start()
        deadline = time.monotonic() + BROKER_S
        while child.state != "ready":
            remark = child.poll()
            if child.state == "restarting" or time.monotonic() > deadline:
                raise NotReady(f"the broker did not start: {remark or ''} {last_words(child.log_file)}")
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            before = [(child.state, child.restarts, child.pid) for child in self.children.values()]
            for child in self.children.values():
                self._give_way(child)
                remark = child.poll()
                if remark:
                    self._remark(remark)
                    if self.ready:
                        self._remark("everything is ready" + (f": {self.urls['api']}" if "api" in self.urls else ""))
            if before != [(child.state, child.restarts, child.pid) for child in self.children.values()]:
                self._write()

    def _give_way(self, child: Child) -> None:
        """An api that could not have its port takes another one, unless the port was asked for."""
        plan, port = self._plan, child.spec.port
        if plan is None or child.spec.name != "api" or child.state != "restarting" or port is None:
            return
        if plan.api_moves and not ports.is_free(port):
            who = ports.holder(port)
            child.spec = moved(plan, child.spec)
            self._remark(f"port {port} was taken by {who}; the api moves to {child.spec.port}")

    def _remark(self, text: str) -> None:
        self.remarks = [*self.remarks, text][-KEPT_REMARKS:]
        self._say(text)

    def _write(self) -> None:
        write_atomically(run_state.path(self.data), self.state().model_dump_json(indent=1).encode())


def _row(child: Child) -> ProcessState:
    return ProcessState(
        name=child.spec.name,
        pid=child.pid,
        created=child.created,
        state=child.state,
        port=child.spec.port,
        restarts=child.restarts,
        since=child.since,
        log=str(child.log_file),
        last_exit=child.last_exit,
    )


def _stop(children: list[Child], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    for child in children:
        child.ask_to_stop()
    for child in children:
        if not child.wait(deadline):
            child.kill()
            child.wait(time.monotonic() + 1.0)
