"""The trainer borrows the engine's device: the real control port and scheduler, without an engine and without a training."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.trainer import device_loan
from services.trainer.device_loan import borrowed, check
from services.trainer.settings import TrainerSettings
from services.weak_model.engine.control import Control
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from shared.contracts.device import DeviceSharing
from shared.contracts.errors import FatalError, TransientError
from shared.contracts.steps import StepKind
from shared.platform.settings import PlatformSettings
from tests.fakes.ports import free_port

TOKEN = "internal"
TIME = PlatformSettings(
    device_sharing=DeviceSharing.TIME, internal_token=SecretStr(TOKEN), lease=timedelta(seconds=12)
)  # fmt: skip


class Engine:
    """A keeper without a server: its scheduler, and the port."""

    def __init__(self, lends: bool = True):
        self.scheduler = ModelScheduler("student", Rules(linger=0, turn=60, drain=0))
        self.scheduler.start_begins()
        self.scheduler.start_succeeded()
        self.port = free_port()
        self.control = Control("127.0.0.1", self.port, TOKEN, self.scheduler, lambda _: True, lends)

    @property
    def settings(self) -> TrainerSettings:
        return TrainerSettings(engine_control_url=f"http://127.0.0.1:{self.port}")

    def yields(self) -> None:
        """What the supervisor does when the engine is idle, without the wait for late requests."""
        with self.scheduler._lock:
            assert self.scheduler._next()
        self.scheduler.freed()


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(device_loan, "REPEAT_S", 0.02)
    engine = Engine(getattr(request, "param", True))
    engine.control.start()
    yield engine
    engine.control.shutdown()
    engine.control.server_close()


async def test_a_training_waits_holds_and_returns_the_device(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_loan, "LOAN_S", 0.5)
    said: list[str] = []

    def on_wait(reason: str) -> None:
        if not said:
            engine.yields()
        said.append(reason)

    async with borrowed(StepKind.SFT, "step 1", TIME, engine.settings, on_wait):
        assert said[0].startswith("the device: the engine is at work with student")
        assert engine.scheduler.lent
        await asyncio.sleep(0.8)  # longer than a loan that is not repeated
        assert not engine.scheduler.loan_is_over()
    assert engine.scheduler.loan_is_over()
    assert not engine.scheduler.lent


async def test_a_training_that_ends_while_it_waits_does_not_take_the_device(engine: Engine):
    waiting = asyncio.Event()
    device = borrowed(StepKind.DPO, "step 1", TIME, engine.settings, lambda _: waiting.set())
    work = asyncio.create_task(device.__aenter__())
    await waiting.wait()
    assert engine.scheduler.status().waiting == ["a training"]
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert engine.scheduler.status().waiting == []


@pytest.mark.parametrize("engine", [False], indirect=True)
async def test_an_engine_that_lends_to_nobody_ends_the_step(engine: Engine):
    with pytest.raises(FatalError, match="METEOR_DEVICE_SHARING") as refused:
        async with borrowed(StepKind.SFT, "step 1", TIME, engine.settings, lambda _: None):
            raise AssertionError("nobody lent it")
    assert refused.value.code == "device_not_lent"


async def test_a_port_that_does_not_answer_is_asked_for_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_loan, "REPEAT_S", 0.02)
    monkeypatch.setattr(device_loan, "UNAVAILABLE_S", 0.1)
    settings, said = TrainerSettings(engine_control_url="http://127.0.0.1:1"), []
    with pytest.raises(TransientError, match="control port"):
        async with borrowed(StepKind.SEARCH, "step 1", TIME, settings, said.append):
            raise AssertionError("nobody lent it")
    assert said[0] == "the device: the engine's control port does not answer"


async def test_nobody_is_asked_where_nothing_is_shared_in_time_or_nothing_is_computed():
    settings = TrainerSettings(engine_control_url="http://127.0.0.1:1")
    for kind, platform in ((StepKind.SFT, PlatformSettings()), (StepKind.PUSH, TIME)):
        async with borrowed(kind, "step 1", platform, settings, pytest.fail):
            pass


def test_a_trainer_that_cannot_ask_does_not_start():
    check(PlatformSettings(), TrainerSettings())
    check(TIME, TrainerSettings(launcher="ray"))  # its steps have devices of their own
    with pytest.raises(FatalError, match="METEOR_TRAINER_ENGINE_CONTROL_URL"):
        check(TIME, TrainerSettings())
