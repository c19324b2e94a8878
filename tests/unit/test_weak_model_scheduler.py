"""Who is served next by the one engine of a device: the rules alone, on a clock of the test, and the port they are asked at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.local.screen import engine_state
from services.weak_model.engine.control import Control
from services.weak_model.engine.health import REQUESTS
from services.weak_model.engine.model_scheduler import FAILURE_S, ModelScheduler, Rules
from services.weak_model.engine.vllm import for_model
from services.weak_model.settings import EngineSettings
from services.weak_model.worker.student_client import StudentClient
from shared.artifacts.bases import Bases
from shared.contracts.engine import ModelState
from shared.contracts.errors import FatalError, TransientError
from tests.fakes.ports import free_port

RULES = Rules(linger=10, turn=300, drain=120)
FULL = "f" * 64


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Device:
    """A choice whose engine starts within `start` seconds, and what it computes just now."""

    def __init__(self):
        self.clock = Clock()
        self.scheduler = ModelScheduler("first", RULES, self.clock)
        self.busy = False
        self.start(45)

    def start(self, seconds: float) -> None:
        self.scheduler.start_begins()
        self.clock.now += seconds
        self.scheduler.start_succeeded()

    def swaps(self, after: float) -> bool:
        self.clock.now += after
        return self.scheduler.should_swap(lambda: self.busy)

    def ask(self, model: str) -> ModelState:
        return self.scheduler.request(model, 20).state


@pytest.fixture
def device() -> Device:
    return Device()


def test_nothing_moves_while_nobody_waits(device: Device):
    assert device.ask("first") is ModelState.READY
    assert not device.swaps(after=10_000)


def test_a_model_that_is_not_in_use_makes_room(device: Device):
    assert device.ask("first") is ModelState.READY
    assert device.ask("second") is ModelState.WAITING
    assert not device.swaps(after=RULES.linger - 1)
    assert device.swaps(after=1)
    assert device.scheduler.start_begins() == "second"
    assert device.ask("second") is ModelState.STARTING
    assert device.ask("first") is ModelState.WAITING


def test_steps_that_follow_each_other_keep_their_model_for_its_turn(device: Device):
    seconds = 0
    while not device.swaps(after=5):
        seconds += 5
        assert seconds <= RULES.turn + 10
        device.ask("first")
        device.ask("second")
    assert seconds >= RULES.turn - 5


def test_when_its_turn_is_over_nobody_is_admitted_and_what_runs_is_finished(device: Device):
    device.clock.now += RULES.turn - 1
    assert device.ask("first") is ModelState.READY
    device.ask("second")
    device.busy = True
    assert not device.swaps(after=2)
    assert device.ask("first") is ModelState.WAITING
    device.busy = False
    assert device.swaps(after=2)
    assert device.scheduler.start_begins() == "second"
    assert device.scheduler.status().waiting == ["first"]  # refused while its turn ended, and so the next


def test_what_runs_for_ever_is_ended_after_the_drain(device: Device):
    device.busy = True
    device.clock.now += RULES.turn
    waited = 0
    while True:
        device.ask("second")
        if device.swaps(after=10):
            break
        waited += 10
    assert waited == RULES.drain


def test_chats_that_ask_nobody_count_as_use(device: Device):
    device.ask("second")
    device.busy = True
    assert not device.swaps(after=RULES.linger)
    assert device.ask("first") is ModelState.READY
    device.busy = False
    device.ask("second")
    assert not device.swaps(after=RULES.linger - 1)
    assert device.swaps(after=1)


def test_whoever_waited_longest_is_next_and_who_gave_up_is_forgotten(device: Device):
    device.ask("gone")
    device.clock.now += 5
    device.ask("second")
    device.clock.now += 10
    device.ask("third")
    device.ask("second")
    assert device.swaps(after=6)
    assert device.scheduler.start_begins() == "second"
    assert device.scheduler.status().waiting == ["third"]


def test_the_time_of_a_start_is_told_by_the_last_ones(device: Device):
    device.ask("second")
    assert device.swaps(after=15)
    device.scheduler.start_begins()
    device.clock.now += 5
    status = device.scheduler.request("second", 20)
    assert (status.state, status.eta_seconds) == (ModelState.STARTING, 40)
    assert status.sentence(FULL) == "the engine loads ffffffffffff..., about 40 s"


def test_a_server_that_died_makes_room_for_who_waits(device: Device):
    device.scheduler.server_died()
    assert device.scheduler.start_begins() == "first"
    device.scheduler.start_succeeded()
    device.ask("second")
    device.scheduler.server_died()
    assert device.scheduler.start_begins() == "second"


def test_a_failed_model_is_refused_for_a_while(device: Device):
    device.ask("second")
    assert device.swaps(after=15)
    device.scheduler.start_begins()
    assert device.scheduler.start_failed("no memory")
    assert device.scheduler.start_begins() == "first"
    assert device.scheduler.request("second", 20).reason == "no memory"
    device.clock.now += FAILURE_S
    assert device.ask("second") is ModelState.WAITING
    assert not device.scheduler.start_failed("the first one itself")


def test_only_models_of_the_deployment_become_folders(tmp_path: Path):
    settings = EngineSettings(model="/models/first", served_name="first")
    bases = Bases(
        student_model="first", student_path=Path("/models/first"), students={"second": Path("/models/second")}
    )
    (tmp_path / FULL).mkdir()
    (tmp_path / FULL / "config.json").touch()
    (tmp_path / ("a" * 64)).mkdir()  # an adapter is not a model of its own
    assert for_model(settings, "first", bases, tmp_path) is settings
    second, full = (for_model(settings, name, bases, tmp_path) for name in ("second", FULL))
    assert second is not None
    assert (second.model, second.served_name, second.lora) == ("/models/second", "second", True)
    assert full is not None
    assert (full.model, full.served_name, full.lora) == (str(tmp_path / FULL), FULL, False)
    for name in ("a" * 64, f"../{tmp_path.name}/{FULL}", "third", ""):
        assert for_model(settings, name, bases, tmp_path) is None


def test_a_training_waits_for_the_device_as_a_model_does(device: Device):
    assert device.ask("first") is ModelState.READY
    assert device.scheduler.borrow("t", 20).state is ModelState.WAITING
    assert device.scheduler.status().waiting == ["a training"]
    assert not device.swaps(after=RULES.linger - 1)
    assert device.swaps(after=1)
    assert device.scheduler.lent
    assert device.ask("first") is ModelState.LENT
    assert device.scheduler.borrow("t", 20).state is ModelState.WAITING  # the server still holds the device
    device.scheduler.freed()
    status = device.scheduler.borrow("t", 20)
    assert (status.state, status.serving) == (ModelState.LENT, "first")
    assert status.sentence("first") == "a training uses the engine's device; the engine serves first afterwards"
    assert not device.scheduler.loan_is_over()
    assert device.scheduler.give_back("t").state is ModelState.LENT  # until the keeper has seen it
    assert device.scheduler.loan_is_over()
    assert not device.scheduler.lent
    assert device.scheduler.woke()
    assert device.ask("first") is ModelState.READY


def test_a_request_is_repeated_while_the_device_is_freed_for_it(device: Device):
    device.scheduler.borrow("t", 20)
    assert device.swaps(after=RULES.linger)
    for _ in range(3):
        assert device.scheduler.borrow("t", 20).state is ModelState.WAITING
        device.clock.now += 15
    assert not device.scheduler.loan_is_over()


def test_nothing_is_served_when_the_device_was_lent_during_a_start_or_while_it_woke(device: Device):
    device.scheduler.start_begins()
    device.scheduler.borrow("t", 20, held=True)
    assert not device.scheduler.start_succeeded()
    assert not device.scheduler.woke()
    assert not device.scheduler.ready
    assert device.ask("first") is ModelState.LENT
    device.scheduler.server_died()
    assert device.scheduler.lent  # whatever becomes of the server
    device.scheduler.give_back("t")
    assert device.scheduler.loan_is_over()
    assert device.scheduler.woke()


def test_a_loan_that_is_not_repeated_ends(device: Device):
    device.scheduler.borrow("t", 20)
    assert device.swaps(after=RULES.linger)
    device.scheduler.borrow("t", 20)
    device.clock.now += 19
    assert not device.scheduler.loan_is_over()
    device.scheduler.borrow("t", 20, held=True)
    device.clock.now += 19
    assert not device.scheduler.loan_is_over()
    device.clock.now += 1
    assert device.scheduler.loan_is_over()


def test_models_and_trainings_are_served_in_the_order_of_their_requests(device: Device):
    device.scheduler.borrow("t", 900)
    device.ask("second")
    assert device.swaps(after=RULES.linger)
    device.scheduler.freed()
    assert device.scheduler.borrow("t", 900).state is ModelState.LENT
    assert device.scheduler.borrow("u", 900).state is ModelState.WAITING  # one at a time
    device.scheduler.request("second", 900)
    device.scheduler.give_back("u")
    device.scheduler.give_back("t")
    assert device.scheduler.loan_is_over()
    assert device.scheduler.serving == "second"
    device.start(45)
    device.scheduler.borrow("t", 900)
    assert device.swaps(after=RULES.linger)
    device.scheduler.freed()
    device.scheduler.borrow("t", 900)
    device.scheduler.borrow("u", 900)
    device.scheduler.give_back("t")
    assert not device.scheduler.loan_is_over()  # the other training is next
    assert device.scheduler.borrow("u", 900).state is ModelState.LENT


def test_a_request_for_the_device_may_be_withdrawn(device: Device):
    device.scheduler.borrow("t", 900)
    device.scheduler.give_back("t")
    assert not device.swaps(after=10_000)


def test_a_training_keeps_the_device_when_the_keeper_is_started_anew():
    scheduler = ModelScheduler("first", RULES, Clock())
    scheduler.start_begins()
    assert scheduler.borrow("new", 20).state is ModelState.WAITING
    assert scheduler.borrow("old", 20, held=True).state is ModelState.WAITING  # the server that starts must end first
    assert scheduler.lent
    scheduler.freed()
    assert scheduler.borrow("old", 20, held=True).state is ModelState.LENT


def test_a_dead_server_makes_room_for_a_training(device: Device):
    device.scheduler.borrow("t", 20)
    device.scheduler.server_died()
    assert device.scheduler.lent


def test_vllms_figures_are_read():
    text = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
"""
    assert REQUESTS.findall(text) == ["2.0", "0.0"]


@pytest.fixture
def control(device: Device) -> Iterator[str]:
    port = free_port()
    server = Control(
        "127.0.0.1", port, "token", device.scheduler, lambda model: model in ("first", "second"), lends=True
    )
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()
    assert "does not answer" in engine_state(f"http://127.0.0.1:{port}")


def test_the_port_answers_and_refuses(control: str):
    token = {"authorization": "Bearer token"}
    with httpx.Client(base_url=control, trust_env=False) as http:
        assert http.get("/status").json()["serving"] == "first"
        assert http.post("/serve", json={"model": "second"}, headers=token).json()["state"] == "waiting"
        assert http.get("/status").json()["waiting"] == ["second"]
        assert engine_state(control) == "the engine serves first; wanted next: second"
        refused: list[tuple[int, Any]] = [
            (401, {"json": {"model": "first"}}),
            (404, {"json": {"model": "../first"}, "headers": token}),
            (400, {"json": {"model": 1}, "headers": token}),
            (400, {"content": b"no json", "headers": token}),
            (400, {"content": b" " * 5000, "headers": token}),
        ]
        for status, options in refused:
            answer = http.post("/serve", **options)
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]["message"]
        assert http.get("/other").status_code == 404
        assert http.post("/other", json={}, headers=token).status_code == 404
        assert http.post("/lend", json={"borrower": "t"}).status_code == 401
        assert http.post("/lend", json={"borrower": ""}, headers=token).status_code == 400
        assert http.post("/lend", json={"borrower": "t"}, headers=token).json()["state"] == "waiting"
        assert http.get("/status").json()["waiting"] == ["second", "a training"]
        assert http.post("/return", json={"borrower": "t"}, headers=token).json()["waiting"] == ["second"]


async def test_a_worker_waits_for_its_model_and_says_so(control: str, device: Device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.weak_model.worker.student_client.POLL_S", 0.01)
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if len(said) == 1:
            assert device.swaps(after=0)
            device.scheduler.start_begins()
        else:
            device.scheduler.start_succeeded()

    async with StudentClient("http://127.0.0.1:1", "token", 5, 0.1, control) as client:
        await client.until_served("first", said.append)
        assert said == []
        device.clock.now += 15
        await client.until_served("second", say)
        assert said[0] == "the engine is at work with first and swaps to second afterwards"
        assert said[1] == "the engine loads second, about 45 s"
        with pytest.raises(FatalError) as missing:
            await client.until_served("third", say)
        assert missing.value.code == "adapter_missing"
    async with StudentClient("http://127.0.0.1:1", "token", 5, 0.1, "http://127.0.0.1:1") as client:
        with pytest.raises(TransientError):
            await client.until_served("first", say)
    async with StudentClient("http://127.0.0.1:1", "token", 5, 0.1) as client:  # one model for ever: nobody is asked
        await client.until_served("first", say)
