"""A job that pauses in the middle of a training: the real worker, the real training process on a tiny Llama."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.trainer.settings import trainer_settings
from services.trainer.tasks import HANDLERS
from shared.artifacts.store import Artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import AdapterConfig, ModelRef, StepKind, TrainParams, canonical, content_hash
from shared.jobs.schema import Stores, open_stores
from shared.jobs.states import StepState
from shared.platform.settings import platform_settings
from shared.queue import step_task
from shared.queue.step_task import StepRunner
from tests.fakes.ports import free_port
from tests.fakes.store_moves import job_row, running, step_row
from tests.fakes.tiny_model import make_tiny_llama

WORDS = ["ls", "date", "wc", "grep", "find", "count", "name", "files"]
EXAMPLES = [{"id": f"{n}", "question": f"What is {w}?", "completion": f"{w} {w}"} for n, w in enumerate(WORDS)]


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """Those of a worker whose student is the tiny Llama and whose broker is away: hints are lost, as they may be."""
    for name, value in {
        "METEOR_DATA": str(tmp_path / "data"),
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "METEOR_STUDENT_PATH": str(make_tiny_llama(tmp_path / "tiny", seed=1)),
        "METEOR_STUDENT_MODEL": "tiny",
        "METEOR_TRAINER_CHECKPOINT_STEPS": "10",
        "METEOR_TRAINER_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(step_task, "POLL_S", 0.05)
    for settings in (platform_settings, trainer_settings):
        settings.cache_clear()
    yield open_stores(platform_settings().database)
    for settings in (platform_settings, trainer_settings):
        settings.cache_clear()


def training_processes() -> list[psutil.Process]:
    processes = []
    for process in psutil.Process().children(recursive=True):
        try:
            processes += [process] if "services.trainer.train" in process.cmdline() else []
        except psutil.NoSuchProcess:
            continue
    return processes


async def test_a_pause_within_a_training_keeps_its_checkpoints_and_costs_no_attempt(stores: Stores, new_job):
    row = running(stores, new_job(stores))
    model = ModelRef(base="tiny", base_hash=content_hash("tiny"))
    params = TrainParams(
        model=model, adapter=AdapterConfig(rank=4, alpha=8), epochs=100, learning_rate=1e-2, batch_size=4, seed=0
    )
    request = step_request(StepKind.SFT, params, EXAMPLES)
    digest = Artifacts(platform_settings().artifacts).put(canonical(request.model_dump(mode="json")))
    step = stores.steps.create(row, StepKey.parse("distill/train"), StepKind.SFT, digest)
    checkpoints = platform_settings().data / "scratch" / step.id / "checkpoints"
    runner = StepRunner("trainer", HANDLERS)

    working = asyncio.create_task(asyncio.to_thread(runner.run, step.id))
    async with asyncio.timeout(180):
        while not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
            assert not working.done(), step_row(stores, step.id).error
            await asyncio.sleep(0.05)
    stores.jobs.pause(row)
    await asyncio.wait_for(working, 30)
    assert training_processes() == []
    given_back = step_row(stores, step.id)
    assert (given_back.state, given_back.attempts) == (StepState.QUEUED, [])
    assert list(checkpoints.glob("checkpoint-*")), "what was trained is kept"
    assert stores.jobs.rest(row)
    await asyncio.to_thread(runner.run, step.id)
    assert step_row(stores, step.id).state == StepState.QUEUED, "no step of a paused job begins"

    stores.jobs.resume(job_row(stores, row.id))
    running(stores, row)
    await asyncio.to_thread(runner.run, step.id)
    done = step_row(stores, step.id)
    assert done.state == StepState.SUCCEEDED, done.error
    assert done.metrics["resumed_from_step"] > 0
    assert done.metrics["steps"] == 200
