"""The local runner with real processes: nothing is left behind, whatever ends; two runs do not meet."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from services.local.supervisor import ports
from services.local.supervisor.main import CannotStart, launch, shut_down
from services.local.supervisor.plan import CONSUMERS, CONTROL, MODULES, NAMES, make_plan, models_needed
from services.local.supervisor.ports import PortTaken
from services.local.supervisor.processes import family
from services.local.supervisor.runner import AlreadyRunning, NotReady, Runner
from shared.contracts.errors import UserError
from shared.contracts.steps import Queue
from shared.platform import run_state
from shared.platform.run_state import identity, is_alive
from tests.fakes.ports import free_port, wait_until

SMALL = ["broker", "gateway", "strong-worker", "api"]
WAIT_S = 120


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith("METEOR_") or name in ("REDIS_URL", "DATABASE_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("METEOR_TEACHER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("METEOR_TEACHER_MODEL", "big")
    monkeypatch.setenv("METEOR_TEACHER_API_KEY", "sk-secret-of-the-provider")


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a run in the background, ready."""
    data = tmp_path / "data"
    launch(data, SMALL)
    try:
        wait_until(lambda: (run := run_state.read(data)) and run.ready, WAIT_S, "the run")
        yield data
    finally:
        shut_down(data)


def everyone(data: Path) -> set[tuple[int, float]]:
    run = run_state.read(data)
    assert run is not None
    identities = {identity(process.pid) for process in family(run.supervisor)}
    return {who for who in identities if who is not None}


def test_a_port_is_chosen_by_one_run_at_a_time():
    """Nobody listens on it yet, so to another process it is free."""
    port = ports.pick(set())
    another = f"from services.local.supervisor import ports; print(ports.is_free({port}), ports.reserve({port}))"
    run = subprocess.run([sys.executable, "-c", another], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


def test_up_and_down_leave_nothing(supervised: Path):
    run = run_state.read(supervised)
    assert run is not None
    assert httpx.get(f"{run_state.api_url(supervised)}/healthz").status_code == 200
    assert {row.name for row in run.processes} == set(SMALL)
    before = everyone(supervised)
    assert len(before) > 2 * len(SMALL)  # each under a guard
    secrets = [
        (supervised / "internal-token").read_text(), (supervised / "broker" / "password").read_text(),
        "sk-secret-of-the-provider",
    ]  # fmt: skip
    lines = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid, _ in before)
    assert not [secret for secret in secrets if secret in lines + run_state.path(supervised).read_text()]
    started = time.monotonic()
    assert shut_down(supervised) == len(before)
    assert time.monotonic() - started < 16
    assert [who for who in before if is_alive(*who)] == []
    assert run_state.read(supervised) is None
    assert shut_down(supervised) == 0


def test_nothing_outlives_a_killed_supervisor(supervised: Path):
    run = run_state.read(supervised)
    assert run is not None
    before = everyone(supervised)
    os.kill(run.supervisor, signal.SIGKILL)
    wait_until(lambda: not [who for who in before if is_alive(*who)], 10, "the end of all processes")
    with pytest.raises(run_state.NotRunning):
        run_state.api_url(supervised)
    launch(supervised, ["broker"])  # the folder is free again
    assert run_state.read(supervised) is not None


def test_two_runs_side_by_side_know_nothing_of_each_other(tmp_path: Path):
    with Runner(tmp_path / "a") as a, Runner(tmp_path / "b") as b:
        a.start(["broker", "api"])
        b.start(["broker", "api"])
        assert a.urls["api"] != b.urls["api"]
        sent = {"file": ("rows.jsonl", b'{"question": "one?", "reference": "1"}\n')}
        httpx.post(f"{a.urls['api']}/v1/files", files=sent, data={"purpose": "fine-tune"}).raise_for_status()
        assert [len(httpx.get(f"{run.urls['api']}/v1/files").json()["data"]) for run in (a, b)] == [1, 0]
        address = b.env_of("api")["REDIS_URL"].rpartition("@")[2]
        with redis.Redis.from_url(f"redis://{address}") as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()
        with pytest.raises(AlreadyRunning, match="in use"):
            Runner(tmp_path / "a").start(["broker"])
        assert httpx.get(f"{a.urls['api']}/healthz").status_code == 200


def test_what_ends_is_started_again_and_the_broker_forgets_nothing(tmp_path: Path):
    with Runner(tmp_path / "data") as runner:
        runner.start(["broker", "api"])
        with redis.Redis.from_url(runner.env_of("api")["REDIS_URL"]) as client:
            client.set("kept", "yes")
            time.sleep(1.2)  # the append-only file is synced each second
            for name in ("broker", "api"):
                for process in family(runner.children[name].pid or 0)[1:]:
                    process.kill()
            wait_until(lambda: runner.state().processes[0].restarts == 1, 60, "another broker")
            runner.wait_ready(WAIT_S)
            assert client.get("kept") == b"yes"
        assert httpx.get(f"{runner.urls['api']}/healthz").status_code == 200
        assert [row.restarts for row in runner.state().processes] == [1, 1]
        assert [remark for remark in runner.remarks if "api ended with 137" in remark]


def test_a_wanted_port_that_is_taken_names_its_holder(tmp_path: Path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        environment = {"METEOR_API_PORT": str(port)}
        with pytest.raises(PortTaken, match=rf"METEOR_API_PORT is {port}.*\(pid {os.getpid()}\)"):
            Runner(tmp_path / "data", environment).start(["broker", "api"])
        with pytest.raises(CannotStart, match=rf"\(pid {os.getpid()}\)"):
            launch(tmp_path / "data", ["broker", "api"], environment)
        chosen, remark = ports.api_port(None, port, set())
        assert chosen != port
        assert f"(pid {os.getpid()})" in remark
    assert run_state.read(tmp_path / "data") is None


def test_a_process_that_cannot_start_is_said_with_its_last_words(tmp_path: Path):
    runner = Runner(tmp_path / "data", {"METEOR_STRONG_CONCURRENCY": "0"})
    with pytest.raises(NotReady, match=r"(?s)gateway.*concurrency"):
        runner.start(["broker", "gateway"], wait_s=6)
    assert runner.children == {}
    assert run_state.read(tmp_path / "data") is None


def test_every_queue_has_a_consumer():
    assert set(CONSUMERS) == set(Queue)
    assert set(CONSUMERS.values()) <= set(NAMES)
    assert {part for name in MODULES for part in MODULES[name][:1]} == {
        f"services.{name}" for name in ("weak_model", "strong_model", "judge", "trainer", "orchestrator", "api")
    }


def test_secrets_reach_only_who_needs_them(tmp_path: Path):
    environment = dict(os.environ) | {"METEOR_API_KEYS": "sk-of-a-client", "REDIS_URL": "redis://elsewhere/0"}
    plan = make_plan(tmp_path, ["gateway", "judge-worker", "strong-worker", "api"], environment)
    env = {spec.name: spec.env for spec in plan.specs}
    assert [name for name in env if "METEOR_TEACHER_API_KEY" in env[name]] == ["gateway"]
    assert [name for name in env if "METEOR_API_KEYS" in env[name]] == ["api"]
    assert {e["METEOR_INTERNAL_TOKEN"] for e in env.values()} == {(tmp_path / "internal-token").read_text()}
    assert (tmp_path / "internal-token").stat().st_mode & 0o077 == 0
    assert {e["REDIS_URL"] for e in env.values()} == {"redis://elsewhere/0"}
    assert {e["METEOR_JUDGE_GATEWAY_URL"] for e in env.values()} == {plan.urls["gateway"]}


def test_given_addresses_replace_processes_and_their_models():
    assert models_needed(None, {}) == ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"]
    elsewhere = {"METEOR_TEACHER_BASE_URL": "http://teacher/v1", "METEOR_STUDENT_MODEL": "org/student"}
    assert models_needed(None, elsewhere) == ["org/student"]
    assert models_needed(["broker", "api"], elsewhere) == []
    several = elsewhere | {"METEOR_STUDENTS": "org/larger, mine=/models/mine"}
    assert models_needed(None, several) == ["org/student", "org/larger", "/models/mine"]


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").touch()
    return folder


def test_all_students_reach_all_processes_and_one_engine_is_asked_for_them(tmp_path: Path):
    first, second = model_folder(tmp_path / "first"), model_folder(tmp_path / "second")
    names = ["broker", "student-engine", "weak-worker", "trainer", "orchestrator", "api"]
    plan = make_plan(
        tmp_path / "data", names, {"METEOR_STUDENT_PATH": str(first), "METEOR_STUDENTS": f"{second}, again={second}"}
    )
    env = {spec.name: spec.env for spec in plan.specs}
    assert {e["METEOR_STUDENTS"] for e in env.values()} == {f"second={second},again={second}"}
    control = plan.urls[CONTROL]
    assert env["student-engine"]["METEOR_ENGINE_CONTROL_PORT"] == control.rpartition(":")[2]
    assert (
        env["api"]["METEOR_API_ENGINE_CONTROL_URL"] == env["weak-worker"]["METEOR_WEAK_ENGINE_CONTROL_URL"] == control
    )
    own_server = {"METEOR_STUDENT_PATH": str(first), "METEOR_WEAK_ENGINE_URL": "http://mine:8000"}
    plan = make_plan(tmp_path / "data", names, own_server)
    assert not any("METEOR_API_ENGINE_CONTROL_URL" in spec.env for spec in plan.specs)
    with pytest.raises(UserError, match="named already"):
        models_needed(None, {"METEOR_STUDENTS": "a=x,a=y"})


def test_unknown_names_and_missing_models_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no process is named nonsense"):
        Runner(tmp_path / "data").start(["nonsense"])
    with pytest.raises(UserError, match="meteor models pull"):
        Runner(tmp_path / "data", {"METEOR_MODELS": str(tmp_path)}).start(["broker", "trainer"])
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_free_port_is_free():
    port = free_port()
    assert ports.is_free(port)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert not ports.is_free(port)
        assert ports.listens(port, {os.getpid()})
        assert not ports.listens(port, {os.getpid() + 1})
