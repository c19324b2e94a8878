"""The trainer borrows the engine's device: the real control port and scheduler, without an engine and without a training."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.trainer import device_loan, tasks
from services.trainer.device_loan import borrowed, check
from services.trainer.settings import TrainerSettings
from services.trainer.spec import Done, Spec
from services.weak_model.engine.control import Control
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from shared.artifacts.store import Artifacts
from shared.contracts.device import DeviceSharing
from shared.contracts.errors import FatalError, Postponed
from shared.contracts.steps import StepKind
from shared.jobs.step_store import Claim
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.fakes.ports import free_port
from tests.fakes.training import train_params

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

    async with borrowed("step 1", TIME, engine.settings, on_wait):
        assert said[0] == "the engine's device (GPU): the engine lends it when its running requests have ended"
        assert engine.scheduler.lent
        await asyncio.sleep(0.8)  # longer than a loan that is not repeated
        assert not engine.scheduler.loan_is_over()
    assert engine.scheduler.loan_is_over()
    assert not engine.scheduler.lent


async def test_a_training_that_ends_while_it_waits_does_not_take_the_device(engine: Engine):
    waiting = asyncio.Event()
    device = borrowed("step 1", TIME, engine.settings, lambda _: waiting.set())
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
        async with borrowed("step 1", TIME, engine.settings, lambda _: None):
            raise AssertionError("nobody lent it")
    assert refused.value.code == "device_not_lent"


async def test_a_port_that_does_not_answer_is_asked_for_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_loan, "REPEAT_S", 0.02)
    monkeypatch.setattr(device_loan, "UNAVAILABLE_S", 0.1)
    settings, said = TrainerSettings(engine_control_url="http://127.0.0.1:1"), []
    with pytest.raises(Postponed, match="control port") as rests:  # it costs the step no attempt
        async with borrowed("step 1", TIME, settings, said.append):
            raise AssertionError("nobody lent it")
    assert said[0] == "the engine's device (GPU): the engine's control port does not answer"
    assert (rests.value.again_in_s, rests.value.code) == (15, "engine_unavailable")


async def test_each_attempt_at_a_step_borrows_for_itself_and_a_conversion_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else the end of an attempt that lost its lease would return the device of the next one."""
    borrowers: list[str] = []

    @asynccontextmanager
    async def lent(borrower: str, *_: object) -> AsyncGenerator[None]:
        borrowers.append(borrower)
        yield

    async def ran(*_: object) -> Done:
        return Done(metrics={})

    monkeypatch.setattr(tasks, "borrowed", lent)
    monkeypatch.setattr(tasks.supervisor, "run", ran)
    monkeypatch.setattr(tasks.supervisor, "plan", lambda *_: spec)
    monkeypatch.setattr(tasks.supervisor, "bytes_to_write", lambda *_: 0)
    monkeypatch.setattr(tasks.Bases, "folder", lambda *_: tmp_path)
    monkeypatch.setattr(Artifacts, "check_room", lambda *_: None)
    spec = Spec(
        kind=StepKind.SFT, params={}, rows=[], base=tmp_path, adapter=None, output=tmp_path, checkpoints=tmp_path
    )
    settings, params = PlatformSettings(data=tmp_path), train_params()
    for attempt in (1, 2):
        claim = Claim("s", "j", "default", "distill/train", StepKind.SFT, "0" * 64, attempt)
        context = StepContext(claim, settings, Artifacts(settings.artifacts))
        await tasks._run_on_model(StepKind.SFT, params, [], context)
        await tasks._run(spec, context)  # as conversions and pushes do
    assert borrowers == ["step s attempt 1", "step s attempt 2"]


async def test_nobody_is_asked_where_nothing_is_shared_in_time():
    settings = TrainerSettings(engine_control_url="http://127.0.0.1:1")
    async with borrowed("step 1", PlatformSettings(), settings, pytest.fail):
        pass


def test_a_trainer_that_cannot_ask_does_not_start():
    check(PlatformSettings(), TrainerSettings())
    check(TIME, TrainerSettings(launcher="ray"))  # its steps have devices of their own
    with pytest.raises(FatalError, match="METEOR_TRAINER_ENGINE_CONTROL_URL"):
        check(TIME, TrainerSettings())
