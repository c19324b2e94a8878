"""`meteor doctor` names each fault of the machine, settings, models and providers, and calls a sound system sound, at rest
and at work."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.local.doctor import machine, serving
from services.local.doctor.finding import Health, Installation
from services.local.models.prepare import CARD
from services.local.supervisor.runner import Runner
from services.meteor.main import cli
from shared.artifacts.folders import hash_folder
from shared.db.engine import reading
from shared.ledger.store import open_ledger
from shared.ledger.tables import calls
from shared.platform import process_guard
from tests.fakes.grader_package import install
from tests.fakes.installation import failed, make_sound, seen, small_model, the_only_failure
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import FakeServer, start_engine, start_teacher

KEY = "sk-of-the-provider"


@pytest.fixture(scope="module")
def teacher() -> Iterator[FakeServer]:
    with start_teacher("--api-key", KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_sound(monkeypatch, tmp_path)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, teacher: FakeServer) -> FakeServer:
    """A strong model elsewhere, in place of the embedded one."""
    monkeypatch.setenv("METEOR_TEACHER_BASE_URL", teacher.base_url)
    monkeypatch.setenv("METEOR_TEACHER_MODEL", "big")
    monkeypatch.setenv("METEOR_TEACHER_API_KEY", KEY)
    monkeypatch.setenv("METEOR_TEACHER_PRICE_INPUT", "2")
    return teacher


def test_a_sound_system_at_rest_is_called_sound_and_the_call_stands_on_the_ledger(data: Path, configured: FakeServer):
    before = len(configured.log())
    done = CliRunner().invoke(cli, ["doctor", "--data", str(data), "--json"])
    report = json.loads(done.stdout)
    wrong = [check for check in report["checks"] if check["state"] != "ok"]
    assert (done.exit_code, report["healthy"], wrong) == (0, True, [])
    message = {check["name"]: check["says"] for check in report["checks"]}
    assert "big answered in" in message["provider default"]
    asked = configured.log()[before:]
    assert message["abilities of default"].startswith("structured output json_schema; system turn kept; seed honoured")
    assert [entry["outcome"] for entry in asked] == ["answered"] * 7
    with reading(open_ledger(f"sqlite:///{data.resolve()}/ledger.sqlite3").engine) as connection:
        row, *tests = connection.execute(calls.select().order_by(calls.c.created_at)).all()
    assert (row.id, row.state, row.output_tokens, row.phase) == (asked[0]["request_id"], "settled", 1, "doctor")
    assert {test.phase for test in tests} == {"doctor", "provider test"}
    assert not (data / "meteor.sqlite3").exists()  # nothing is made by looking
    assert not (data / "run.json").exists()


def test_the_port_is_held_by_another_process(data: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        monkeypatch.setenv("METEOR_API_PORT", str(holder.getsockname()[1]))
        assert f"(pid {os.getpid()})" in the_only_failure(data, "port").message


def test_the_data_folder_cannot_be_written(tmp_path: Path):
    (tmp_path / "in-the-way").write_text("a file")
    for folder in (Path("/proc/meteor"), tmp_path / "in-the-way"):  # not even root may write there
        finding = the_only_failure(folder, "data folder")
        assert "cannot be written" in finding.message


def test_a_prepared_model_was_changed_and_an_own_one_cut_off(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = small_model(tmp_path / "models" / "org--small")
    (folder / CARD).write_text(json.dumps({"name": "org--small", "fingerprint": hash_folder(folder)}))
    monkeypatch.setenv("METEOR_STUDENTS", "org/small")
    assert failed(data) == {}
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "not those that were prepared" in the_only_failure(data, "model org--small").message
    content[-1] ^= 1
    weights.write_bytes(content)
    own = tmp_path / "student" / "model.safetensors"
    own.write_bytes(own.read_bytes()[:-100])
    assert "model.safetensors cannot be read" in the_only_failure(data, "model student").message


def test_graders_of_packages_are_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_GRADERS", "nowhere")
    assert "entry point 'nowhere'" in the_only_failure(data, "grader nowhere").message
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(install(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
    monkeypatch.setenv("METEOR_GRADERS", "levenshtein, absent")
    findings = {one.name: one for one in seen(data)}
    assert findings["grader levenshtein"].health is Health.OK
    assert "acme-graders 1.2" in findings["grader levenshtein"].message
    assert "acme_absent" in findings["grader absent"].message
    assert findings["grader absent"].health is Health.FAIL
    assert findings["grader broken"].health is Health.WARN, "installed and not allowed: it is not imported"


def test_of_three_providers_one_has_a_wrong_key_and_one_is_away(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: FakeServer
):
    """One gateway is borrowed for all three."""
    file = tmp_path / "providers.toml"
    file.write_text(
        f'[providers.sound]\nbase_url = "{configured.base_url}"\nmodel = "big"\napi_key_env = "SOUND_KEY"\n'
    )
    for name, value in {
        "METEOR_PROVIDERS_FILE": str(file),
        "SOUND_KEY": KEY,
        "METEOR_TEACHER_API_KEY": "sk-a-wrong-one",
        "METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
        "METEOR_JUDGE_MODEL": "judge",
    }.items():
        monkeypatch.setenv(name, value)
    findings = {finding.name: finding for finding in seen(data, calls=True)}
    wrong, away = (findings[f"provider {name}"] for name in ("default", "judge"))
    assert [f.name for f in findings.values() if f.health is Health.FAIL] == [wrong.name, away.name]
    assert "METEOR_TEACHER_API_KEY" in wrong.message
    assert "sk-a-wrong-one" not in wrong.message + wrong.fix
    assert "METEOR_JUDGE_BASE_URL" in away.message
    assert wrong.fix
    assert away.fix
    assert "big answered in" in findings["provider sound"].message


def test_the_providers_file_is_malformed_or_lacks_a_secret(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "providers.toml"
    monkeypatch.setenv("METEOR_PROVIDERS_FILE", str(file))
    entry = '[providers.other]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
    for content, words in (
        ("[providers.other", "is not TOML"),
        (f"{entry}price_input = -1", "providers.other.price_input"),
        (f'{entry}api_key_env = "NOBODY_SET_THIS"', "NOBODY_SET_THIS"),
    ):
        file.write_text(content)
        findings = failed(data)
        assert words in findings["providers file"].message, findings


@pytest.mark.usefixtures("configured")
def test_a_price_that_is_no_number_keeps_the_gateway_from_starting(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_TEACHER_PRICE_OUTPUT", "cheap")
    assert "price_output" in the_only_failure(data, "gateway").message


def test_the_disk_is_below_the_floor(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_DISK_FLOOR_GB", "1000000000")
    findings = failed(data)
    assert list(findings) == ["disk", "disk of the models"]
    assert "METEOR_DISK_FLOOR_GB" in findings["disk"].message
    assert "meteor gc" in findings["disk"].fix


def test_others_can_reach_the_api_and_need_no_key(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_HOST", "0.0.0.0")
    assert "meteor keys create" in the_only_failure(data, "access").fix
    monkeypatch.setenv("METEOR_API_KEYS", "one")
    assert failed(data) == {}


def test_the_engine_is_down(data: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("METEOR_WEAK_ENGINE_URL", url)
    assert f"METEOR_WEAK_ENGINE_URL {url} does not answer" in the_only_failure(data, "engine").message


def test_a_setting_cannot_be_read(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_PORT", "eighty")
    assert "METEOR_API_PORT" in the_only_failure(data, "settings").message


def test_processes_are_left_over(data: Path):
    data.mkdir()
    command = process_guard.command(["sleep", "60"])
    environment = os.environ | {"METEOR_DATA": str(data.resolve())}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as child:
        wait_until(lambda: failed(data), 60, "the finding")
        finding = the_only_failure(data, "leftover processes")
        assert str(child.pid) in finding.message
        assert finding.fix == f"`kill {child.pid}`"
        child.terminate()
    assert failed(data) == {}


def test_what_is_installed_is_not_what_the_locks_have(tmp_path: Path):
    assert machine.versions().health is Health.OK
    (tmp_path / "services.lock").write_text("httpx==0.1.0\nno-such-package==1.0\n")
    finding = machine.versions(tmp_path)
    assert finding.health is Health.FAIL
    assert "services.lock has 0.1.0" in finding.message
    assert "no-such-package 1.0 of services.lock is not installed" in finding.message
    assert machine.python((3, 10)).health is Health.FAIL


def test_a_run_at_work_is_called_sound_and_what_it_lacks_is_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, configured: FakeServer
):
    with start_engine() as engine:
        monkeypatch.setenv("METEOR_WEAK_ENGINE_URL", engine.url)
        assert (
            serving.engine(Installation.of(data, os.environ)).health is Health.OK
        )  # without a token, before the first start
        with Runner(data) as runner:
            runner.start(["broker", "gateway", "api"])
            findings = {finding.name: finding for finding in seen(data, calls=True)}
            assert [f for f in findings.values() if f.health is Health.FAIL] == []
            assert "noeviction" in findings["broker"].message
            assert findings["gateway"].message == runner.urls["gateway"]
            assert "big answered in" in findings["provider default"].message
            before = len(configured.log())
            assert not [f for f in seen(data, calls=True) if f.health is Health.FAIL]
            assert len(configured.log()) == before + 1  # an answer out of the cache would say nothing
            assert "queue:weak" in findings["api"].message
            assert findings["port"].message == f"the api listens at {runner.urls['api']}"
            assert findings["processes"].message == "3 run and are ready"
            configured.heal()
            configured.fault("quota", times=1)  # it lists its models, and refuses to answer
            assert "teacher_quota_exhausted" in the_only_failure(data, "provider default", calls=True).message
            assert failed(data, calls=False) == {}  # by the list of models alone nobody can tell


def test_the_exit_code_is_that_of_the_worst_and_each_line_says_how_to_fix_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("METEOR_API_HOST", "0.0.0.0")
    done = CliRunner().invoke(cli, ["doctor", "--data", str(data), "--no-calls"])
    assert done.exit_code == 1, done.output
    assert "fail access: METEOR_API_HOST is 0.0.0.0" in done.stdout
    assert "fix: make a key" in done.stdout
    assert "1 failed" in done.stdout
