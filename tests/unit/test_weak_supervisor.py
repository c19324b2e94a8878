"""The engine's state machine with small commands in place of vLLM: real processes, real guard."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from services.weak_model.engine import main, model_scheduler
from services.weak_model.engine.answer_probe import AnswerProbe, Outcome
from services.weak_model.engine.health import is_busy, is_healthy, serves
from services.weak_model.engine.heartbeat import EngineHeartbeat
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from services.weak_model.engine.sleep import SleepControl
from services.weak_model.engine.supervisor import EngineState, EngineSupervisor, ExternalEngine, Timing, check_port
from services.weak_model.engine.vllm import Launch, explain, is_hopeless
from services.weak_model.settings import EngineSettings
from shared.contracts.device import DeviceSharing
from shared.contracts.engine import ModelState, SleepMode
from shared.contracts.errors import FatalError
from shared.jobs.schema import open_stores
from shared.platform.settings import PlatformSettings
from tests.fakes.ports import free_port, wait_until

TIMING = Timing(start=20, attempts=3, pause=0.05, max_pause=0.2, silence=1, poll=0.05, report=0.1)
RULES = Rules(linger=2.5, turn=60, drain=60)
# Answers /health once it sees its file; starts a grandchild in a session of its own, as vLLM does.
SERVER = """
import http.server, pathlib, subprocess, sys
folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
(folder / "grandchild").write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if (folder / "mute").exists() else 200)
        self.end_headers()
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Running:
    """An engine in a thread; its server is the script above on a free port."""

    def __init__(self, folder: Path, script: str = SERVER, timing: Timing = TIMING, rules: Rules = RULES):
        self.folder = folder
        self.scheduler = ModelScheduler("first", rules)
        port = free_port()
        url = f"http://127.0.0.1:{port}"

        def launch(model: str) -> Launch:
            (folder / "model").write_text(model)
            return Launch([sys.executable, "-c", script, str(folder), str(port), model], {"PATH": "/usr/bin:/bin"})

        busy = (folder / "busy").exists
        self.engine = EngineSupervisor(launch, lambda: is_healthy(url), busy, explain, timing, self.scheduler)
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.code = self.engine.run()

    def ready(self, starts: int = 1) -> None:
        wait_until(
            lambda: self.engine.state == EngineState.READY and self.engine.starts == starts, 20, f"start {starts}"
        )

    @property
    def grandchild(self) -> int:
        return int((self.folder / "grandchild").read_text())

    def server(self) -> psutil.Process:
        """The parent of the grandchild."""
        parent = psutil.Process(self.grandchild).parent()
        assert parent is not None
        return parent


@contextmanager
def running(folder: Path, **options) -> Generator[Running]:
    run = Running(folder, **options)
    run.thread.start()
    try:
        yield run
    finally:
        run.engine.stop()
        run.thread.join(20)
        assert not run.thread.is_alive()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_stops_clean_with_all_of_its_family(tmp_path: Path):
    with running(tmp_path) as run:
        run.ready()
        grandchild = run.grandchild
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert (run.code, run.engine.state, run.engine.starts) == (0, EngineState.STOPPED, 1)
    assert not alive(grandchild)


def test_a_server_that_dies_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture):
    with running(tmp_path) as run:
        run.ready()
        first = run.grandchild
        run.server().send_signal(signal.SIGKILL)
        run.ready(starts=2)
        wait_until(lambda: not alive(first), 10, "the end of the first server's child")
    assert "the engine was lost; restarting it" in capsys.readouterr().out


def test_a_server_that_lives_but_falls_silent_is_replaced(tmp_path: Path):
    with running(tmp_path) as run:
        run.ready()
        (tmp_path / "mute").touch()
        wait_until(lambda: run.engine.state != EngineState.READY, 60, "the replacement")
        (tmp_path / "mute").unlink()
        run.ready(starts=2)


def test_it_gives_up_after_three_failed_starts_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture):
    script = "print('torch.OutOfMemoryError: CUDA out of memory'); raise SystemExit(3)"
    with running(tmp_path, script=script) as run:
        run.thread.join(20)
        assert (run.code, run.engine.state, run.engine.starts) == (1, EngineState.FAILED, 3)
    said = capsys.readouterr().out
    assert "cannot be started" in said
    assert "not enough memory" in said
    assert "exit code 3" in said


def test_a_start_that_takes_too_long_is_a_failed_one(tmp_path: Path):
    timing = replace(TIMING, start=0.5, attempts=1)
    with running(tmp_path, script="import time; time.sleep(600)", timing=timing) as run:
        run.thread.join(20)
        assert run.code == 1


def test_it_stops_while_the_server_starts(tmp_path: Path):
    with running(tmp_path, script="import time; time.sleep(600)") as run:
        wait_until(lambda: run.engine.starts == 1)
    assert run.code == 0


def test_it_swaps_to_the_model_that_is_wanted_and_back(tmp_path: Path):
    with running(tmp_path) as run:
        run.ready()
        first = run.grandchild
        assert run.scheduler.request("first", 60).state is ModelState.READY
        assert run.scheduler.request("second", 60).state is ModelState.WAITING
        (tmp_path / "busy").touch()
        time.sleep(RULES.linger + 0.5)
        assert run.scheduler.status().serving == "first"  # what runs is finished first
        (tmp_path / "busy").unlink()
        run.ready(starts=2)
        assert (run.scheduler.request("second", 60).state, (tmp_path / "model").read_text()) == (
            ModelState.READY,
            "second",
        )
        assert not alive(first)
        run.scheduler.request("first", 60)
        run.ready(starts=3)
        assert run.scheduler.status().serving == "first"


def test_a_model_that_cannot_be_started_is_refused_and_the_first_comes_back(tmp_path: Path):
    script = f"import sys\nif sys.argv[3] == 'second': sys.exit('ValueError: no such layer')\n{SERVER}"
    with running(tmp_path, script=script, rules=replace(RULES, linger=0)) as run:
        run.ready()
        run.scheduler.request("second", 60)
        run.ready(starts=1 + TIMING.attempts + 1)
        status = run.scheduler.request("second", 60)
        assert (status.state, status.serving) == (ModelState.FAILED, "first")
        assert "no such layer" in (status.reason or "")


class Lending(Running):
    """Its server has the real sleep guard; see tests.fakes.sleeping_engine."""

    def __init__(self, folder: Path, sleeps: bool = True):
        super().__init__(folder, rules=replace(RULES, linger=0.1))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        module = [sys.executable, "-m", "tests.fakes.sleeping_engine", str(folder), str(port)]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.probe = AnswerProbe(self.url, "")
        self.engine = EngineSupervisor(
            lambda model: Launch([*module, model], environment),
            lambda: is_healthy(self.url),
            lambda: is_busy(self.url),
            explain,
            TIMING,
            self.scheduler,
            is_hopeless,
            self.probe,
            SleepControl(self.url, "", None if sleeps else "not here"),
        )

    def lent(self) -> None:
        """A training asks until it has the device."""
        wait_until(lambda: self.scheduler.borrow("t", 60).state is ModelState.LENT, 30, "the loan")
        assert self.engine.state == EngineState.LENT  # no server holds it

    def returned(self, starts: int) -> None:
        self.scheduler.give_back("t")
        self.ready(starts)


@contextmanager
def lending(run: Lending) -> Generator[Lending]:
    run.thread.start()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(model_scheduler, "SETTLE_S", 0.1)
            wait_until(lambda: run.engine.state in (EngineState.READY, EngineState.LENT), 20, "the start")
            yield run
    finally:
        run.engine.stop()
        run.thread.join(20)


def test_it_sleeps_while_a_training_has_the_device_and_the_same_server_goes_on(tmp_path: Path):
    with lending(Lending(tmp_path)) as run:
        assert run.scheduler.status().sleep_mode == SleepMode(available=True)
        run.lent()
        assert (tmp_path / "asleep").read_text() == "1"
        run.returned(starts=1)
        assert not (tmp_path / "asleep").exists()
        assert (run.engine.sleeps, run.engine.wakes, run.engine.failed) == (1, 1, 0)
        assert run.probe.outcomes[Outcome.SAME] == 1
        assert httpx.post(f"{run.url}/v1/completions", json={"model": "first", "max_tokens": 1}).status_code == 200


def test_where_vllm_cannot_sleep_it_is_stopped_and_started_again(tmp_path: Path):
    with lending(Lending(tmp_path, sleeps=False)) as run:
        assert run.scheduler.status().sleep_mode == SleepMode(available=False, reason="not here")
        run.lent()
        assert not is_healthy(run.url)
        run.returned(starts=2)
        assert (run.engine.sleeps, run.engine.failed) == (0, 0)


def test_an_engine_that_wakes_spoiled_is_restarted_before_it_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "spoils").touch()
    with lending(Lending(tmp_path)) as run:
        run.lent()
        run.returned(starts=2)
        assert (run.engine.wakes, run.engine.failed, run.probe.outcomes[Outcome.DIFFERENT]) == (0, 1, 1)
    assert "the engine computes something else than before" in capsys.readouterr().out


@pytest.mark.parametrize("event", ["started", "woke"])
def test_a_device_that_is_lent_before_the_engine_serves_is_freed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
):
    """A trainer repeats its loan while a server that was started or woken answers the fixed prompt."""
    run = Lending(tmp_path)
    compare, borrowed = getattr(run.probe, event), []

    def lend_meanwhile(served: str) -> str | None:
        if not borrowed:
            borrowed.append(run.scheduler.borrow("late", 60, held=True).state)
        return compare(served)

    monkeypatch.setattr(run.probe, event, lend_meanwhile)
    with lending(run) as run:
        if event == "woke":
            run.lent()
            run.scheduler.give_back("t")
        wait_until(lambda: borrowed == [ModelState.WAITING], 20, "the second loan")
        wait_until(lambda: run.scheduler.borrow("late", 60, held=True).state is ModelState.LENT, 20, "the device")
        assert (tmp_path / "asleep").exists()
        run.scheduler.give_back("late")
        run.ready()
        assert (run.engine.sleeps, run.engine.wakes, run.engine.failed) == (2 if event == "woke" else 1, 1, 0)


class Hanging(SleepControl):
    """vLLM that takes minutes for one of its calls."""

    def __init__(self, hangs: str, begun: threading.Event):
        super().__init__("http://127.0.0.1:1", "")
        self.hangs, self.begun = hangs, begun

    def _may_hang(self, call: str) -> bool:
        if call == self.hangs:
            self.begun.set()
            threading.Event().wait(120)
        return True

    def look(self) -> None:
        self._may_hang("look")
        self.mode = SleepMode(available=True)

    def sleep(self) -> bool:
        return self._may_hang("sleep")

    def wake(self) -> None:
        self._may_hang("wake")


@pytest.mark.parametrize("call", ["look", "sleep", "wake"])
def test_a_stop_does_not_wait_for_a_call_that_takes_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    monkeypatch.setattr(model_scheduler, "SETTLE_S", 0.0)
    run, begun = Running(tmp_path, rules=replace(RULES, linger=0)), threading.Event()
    run.engine.sleep = Hanging(call, begun)
    run.thread.start()
    try:
        wait_until(lambda: run.scheduler.borrow("t", 60).state is ModelState.LENT or begun.is_set(), 20, "the call")
        run.scheduler.give_back("t")
        assert begun.wait(20)
    finally:
        run.engine.stop()
        run.thread.join(10)
    assert (run.code, run.engine.state) == (0, EngineState.STOPPED)


def test_an_engine_that_does_not_wake_is_restarted(tmp_path: Path):
    (tmp_path / "stuck").touch()
    with lending(Lending(tmp_path)) as run:
        run.lent()
        run.returned(starts=2)
        assert (run.engine.sleeps, run.engine.wakes, run.engine.failed) == (1, 0, 1)


def test_corruption_by_a_loaded_adapter_restarts_the_engine(tmp_path: Path):
    with lending(Lending(tmp_path)) as run:
        (tmp_path / "spoiled").touch()
        (tmp_path / "adapters").write_text("one")
        wait_until(lambda: run.engine.failed == 1, 30, "the restart")
        (tmp_path / "spoiled").unlink()
        run.ready(starts=2)


def test_a_sleeping_server_makes_room_for_another_model(tmp_path: Path):
    with lending(Lending(tmp_path)) as run:
        run.lent()
        run.scheduler.request("second", 60)
        run.returned(starts=2)
        assert (run.scheduler.serving, run.engine.wakes, run.engine.failed) == ("second", 0, 0)


def test_a_vllm_that_refuses_sleep_mode_is_started_without(tmp_path: Path):
    sleep = SleepControl("http://127.0.0.1:1", "")
    script = f"import sys\nif sys.argv[4] == 'sleeps': sys.exit('ValueError: Sleep mode is not supported')\n{SERVER}"
    port = free_port()

    def launch(model: str) -> Launch:
        mode = "sleeps" if sleep.mode.available is not False else "awake"
        argv = [sys.executable, "-c", script, str(tmp_path), str(port), model, mode]
        return Launch(argv, {"PATH": "/usr/bin:/bin"})

    with running(tmp_path) as run:
        run.ready()
        url = f"http://127.0.0.1:{port}"
        engine = EngineSupervisor(
            launch, lambda: is_healthy(url), lambda: False, explain, TIMING, ModelScheduler("first", RULES),
            is_hopeless, None, sleep,
        )  # fmt: skip
        thread = threading.Thread(target=engine.run)
        thread.start()
        wait_until(lambda: engine.state == EngineState.READY, 20, "the start without sleep mode")
        engine.stop()
        thread.join(20)
    assert (engine.starts, engine.failed, sleep.mode.reason) == (2, 0, "vLLM has no sleep mode on this device")


def test_a_server_of_others_is_watched_only(tmp_path: Path):
    answers = threading.Event()
    engine = ExternalEngine(answers.is_set, TIMING)
    thread = threading.Thread(target=engine.run)
    thread.start()
    answers.set()
    wait_until(lambda: engine.state == EngineState.READY)
    answers.clear()
    wait_until(lambda: engine.state == EngineState.STARTING)
    engine.stop()
    thread.join(5)
    assert engine.state == EngineState.STOPPED


def test_nobody_there_is_neither_healthy_nor_serving():
    url = f"http://127.0.0.1:{free_port()}"
    assert not is_healthy(url)
    assert not serves(url, "token", "student")


def test_a_taken_port_is_refused_before_the_start():
    with running_listener() as port, pytest.raises(FatalError, match=str(port)):
        check_port("127.0.0.1", port)
    check_port("127.0.0.1", free_port())


@contextmanager
def running_listener() -> Generator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_pulse_tells_of_a_ready_engine_and_takes_its_row_back(tmp_path: Path):
    settings = PlatformSettings(data=tmp_path, renew=0.1)
    jobs = open_stores(settings.database).jobs
    ready = threading.Event()
    heartbeat = EngineHeartbeat(settings, "student", 64, ready.is_set)
    heartbeat.start()
    time.sleep(0.3)
    assert jobs.live_workers(5) == []
    ready.set()
    wait_until(lambda: jobs.live_workers(5))
    (row,) = jobs.live_workers(5)
    assert (row.service, row.queue, row.slots) == ("engine", None, 64)
    assert row.id.startswith("engine:student@")
    heartbeat.stop()
    assert jobs.live_workers(5) == []


def test_an_engine_without_a_database_goes_on(tmp_path: Path):
    (tmp_path / "file").touch()
    heartbeat = EngineHeartbeat(PlatformSettings(data=tmp_path / "file", renew=0.05), "student", 1, lambda: True)
    heartbeat.start()
    time.sleep(0.3)
    assert heartbeat.thread.is_alive()
    heartbeat.stop()


def test_an_engine_of_others_is_refused_where_the_device_is_to_be_lent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(main, "platform_settings", lambda: PlatformSettings(device_sharing=DeviceSharing.TIME))
    settings = EngineSettings(served_name="student", url="http://127.0.0.1:1")
    with pytest.raises(FatalError, match="lends its device to no training"):
        main._build(settings)
    monkeypatch.setattr(main, "platform_settings", PlatformSettings)
    assert isinstance(main._build(settings), ExternalEngine)


def test_the_process_ends_with_an_error_when_it_cannot_work(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "services.weak_model", "engine"],
        env={"PATH": "/usr/bin:/bin", "METEOR_DATA": str(tmp_path), "METEOR_ENGINE_SERVED_NAME": "s",
             "METEOR_ENGINE_MODEL": str(tmp_path / "none")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no config.json" in done.stderr


@pytest.mark.parametrize(
    ("lines", "hopeless"),
    [
        (["ValueError: Model architectures ['Odd'] are not supported for now."], True),
        (["ModuleNotFoundError: No module named 'torchvision'"], True),
        (["ValueError: No available memory for the cache blocks."], False),
        (["OSError: [Errno 98] address already in use", "RuntimeError: Engine core initialization failed"], False),
        (["RuntimeError: Engine core initialization failed"], False),
        (["loading weights"], False),
    ],
)
def test_an_error_that_would_come_again_is_known_by_its_words(lines: list[str], hopeless: bool):
    assert is_hopeless(lines) is hopeless


def test_a_hopeless_start_is_not_tried_again(tmp_path: Path):
    script = "raise ValueError('Model architectures are not supported')"
    launch = Launch(
        [
            sys.executable,
            "-c",
            f"import sys; sys.stderr = sys.stdout\nimport traceback\ntry:\n {script}\nexcept ValueError: traceback.print_exc(file=sys.stdout)\nsys.exit(1)",
        ],
        {},
    )
    engine = EngineSupervisor(
        lambda model: launch, lambda: False, lambda: False, explain, TIMING, ModelScheduler("first", RULES), is_hopeless
    )
    assert engine.run() == 1
    assert (engine.starts, engine.state) == (1, EngineState.FAILED)
