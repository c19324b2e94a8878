"""Imports and exports that are cancelled and paused while they run: the real orchestrator, the real workers' code, the real gateway
before a fake examiner, the real reader, the real merging process."""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.api.features.exports import service as exports
from services.api.features.files import service as files
from services.api.features.files.service import Received
from services.api.features.imports import service as imports
from services.api.paging import Paging
from services.orchestrator import scheduler
from services.strong_model.settings import strong_settings
from services.strong_model.worker import tasks as strong
from services.trainer import publishing
from services.trainer import tasks as trainer
from services.trainer.settings import trainer_settings
from shared.contracts.exports import ExportWish
from shared.contracts.imports import ImportRequest
from shared.contracts.steps import Method, Queue
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.settings import platform_settings
from shared.queue import step_task
from shared.queue.step_task import StepRunner
from tests.fakes.dump import zipped
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.ports import free_port, wait_until
from tests.fakes.simulated import BASE
from tests.fakes.start import start_teacher
from tests.fakes.system import System
from tests.fakes.tiny_adapter import make_tiny_adapter
from tests.fakes.tiny_model import make_tiny_llama

WITHIN_S = 10.0  # generous: the machine may be busy; test_stopping.py holds workers to five seconds
SLOW_S = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        start_teacher("--api-key", KEY, module="tests.fakes.examiner") as teacher,
        running_gateway(teacher, tmp_path_factory.mktemp("examiner"), **PATIENT) as made,
    ):
        yield made


class Plant(System):
    """Its steps are run by the code of the workers, which have a slot each."""

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        self.slots = {}  # nobody pretends
        async with self.running():
            for queue in (Queue.STRONG, Queue.TRAIN):
                self.stores.jobs.heartbeat(f"real-{queue}", DEFAULT_PROJECT, "real", queue, 1)
            runners = {
                Queue.STRONG: StepRunner("strong", strong.HANDLERS),
                Queue.TRAIN: StepRunner("trainer", trainer.HANDLERS),
            }
            tasks = [asyncio.create_task(self._serve(queue, runner)) for queue, runner in runners.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, queue: Queue, runner: StepRunner) -> None:
        while True:
            step = await self.queues[queue].get()
            await asyncio.to_thread(runner.run, step)
            self.ran["all"].append(step)
            for tell in self._ended:
                tell(step)

    def store(self, content: bytes, name: str) -> str:
        path = self.settings.data / "files" / f".upload-{name}"
        path.write_bytes(content)
        received = Received(path, hashlib.sha256(content).hexdigest(), len(content), name, "user_data")
        return files.add(self.context, received).id

    def post_import(self, content: bytes, name: str, **source: Any) -> str:
        request = ImportRequest.model_validate({"source": source, "file": self.store(content, name)})
        return imports.create(self.context, request).id

    def states(self, job: str) -> Counter[str]:
        return Counter(step.state for step in self.stores.steps.of_job(job))

    def made_files(self) -> int:
        return len(files.page(self.context, Paging(limit=100), None, "desc").data)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> Iterator[Plant]:
    for name, value in {
        "METEOR_DATA": str(tmp_path),
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # hints are lost, as they may be
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_STRONG_GATEWAY_URL": gateway.url,
        "METEOR_TRAINER_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    monkeypatch.setattr(step_task, "POLL_S", 0.05)
    cached = (platform_settings, strong_settings, trainer_settings)
    for settings in cached:
        settings.cache_clear()
    yield Plant(tmp_path, monkeypatch)
    gateway.teacher.heal()
    for settings in cached:
        settings.cache_clear()


async def until(holds: Callable[[], Any], what: str, within_s: float = 60) -> None:
    await asyncio.to_thread(wait_until, holds, within_s, what)


def documents(folder: Path, salt: str) -> bytes:
    texts = {
        f"{salt}-{n}.md": f"# {salt} {n}\n\nFact {n} about {salt}{n} is told here at length. " + "More is said. " * 30
        for n in range(24)
    }
    zipped(folder / "docs.zip", {name: text.encode() for name, text in texts.items()})
    return (folder / "docs.zip").read_bytes()


def asking(gateway: Gateway, salt: str) -> list[dict[str, Any]]:
    return [entry for entry in gateway.teacher.log() if salt in str(entry["messages"])]


async def test_an_import_that_asks_is_cancelled(plant: Plant, gateway: Gateway, tmp_path: Path):
    gateway.teacher.latency(SLOW_S)
    job = plant.post_import(documents(tmp_path, "wasps"), "docs.zip", type="documents", domain="insects", questions=16)
    before = plant.made_files()
    async with plant.working():
        await until(lambda: asking(gateway, "wasps"), "calls on their way")
        began = time.monotonic()
        assert imports.lifecycle.cancel(plant.context, job).status == "cancelling"
        await plant.until(job, "cancelled")
        await until(lambda: all(entry["outcome"] for entry in asking(gateway, "wasps")), "the teacher is left alone", 5)
        assert time.monotonic() - began < WITHIN_S
        sent = len(asking(gateway, "wasps"))
        await asyncio.sleep(0.3)
        assert len(asking(gateway, "wasps")) == sent
    assert set(plant.states(job)) == {"succeeded", "cancelled"}, "what was read is done, what was asked is not"
    assert plant.made_files() == before


async def test_an_import_that_asks_is_paused_and_pays_for_nothing_twice(plant: Plant, gateway: Gateway, tmp_path: Path):
    gateway.teacher.latency(1.0)
    job = plant.post_import(documents(tmp_path, "bees"), "docs.zip", type="documents", domain="insects", questions=16)
    async with plant.working():
        await until(lambda: asking(gateway, "bees"), "calls on their way")
        began = time.monotonic()
        assert imports.lifecycle.pause(plant.context, job).status == "pausing"
        await plant.until(job, "paused")
        assert time.monotonic() - began < WITHIN_S
        assert set(plant.states(job)) == {"succeeded", "queued"}
        await until(lambda: all(entry["outcome"] for entry in asking(gateway, "bees")), "what was sent is finished")
        gateway.teacher.latency(0)
        assert imports.lifecycle.resume(plant.context, job).status == "queued"
        await plant.until(job, "succeeded")
    ended = imports.lifecycle.get(plant.context, job)
    assert ended.result is not None
    assert ended.result.rows == 8
    asked = [json.dumps(entry["messages"]) for entry in asking(gateway, "bees")]
    assert len(asked) == len(set(asked)), "a call was paid for twice"


def chat_rows(count: int) -> bytes:
    messages = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "This."}]
    return (json.dumps({"messages": messages}) + "\n").encode() * count


@pytest.mark.parametrize("how", ["cancel", "pause"])
async def test_a_long_file_is_not_read_to_its_end_for_nobody(plant: Plant, how: str):
    """300,000 lines take the better part of a minute."""
    job = plant.post_import(chat_rows(300_000), "long.jsonl", type="chat")
    async with plant.working():
        await until(lambda: plant.states(job)["running"], "the reading")
        began = time.monotonic()
        getattr(imports.lifecycle, how)(plant.context, job)
        await plant.until(job, "cancelled" if how == "cancel" else "paused")
        await until(lambda: plant.ran["all"], "the worker is free again", 10)
        assert time.monotonic() - began < WITHIN_S
    assert set(plant.states(job)) == {"cancelled" if how == "cancel" else "queued"}


def merging() -> list[psutil.Process]:
    processes = []
    for process in psutil.Process().children(recursive=True):
        try:
            processes += [process] if "services.trainer.train" in process.cmdline() else []
        except psutil.NoSuchProcess:
            continue
    return processes


async def test_an_export_is_paused_goes_on_and_is_cancelled(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = make_tiny_llama(tmp_path / "base", seed=1)
    monkeypatch.setenv("METEOR_STUDENT_PATH", str(base))
    adapter = make_tiny_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / publishing.CONFIG).read_text()) | {"base_model_name_or_path": BASE.base}
    (adapter / publishing.CONFIG).write_text(json.dumps(config))
    digest = plant.artifacts.put_folder(adapter)
    origin = plant.post(plant.file())
    plant.stores.jobs.cancel(plant.row(origin))
    base_ref = plant.context.bases.ref(plant.context.students[0].name)
    plant.stores.catalog.publish(DEFAULT_PROJECT, "expert", base_ref.trained(Method.LORA, digest), origin, "promoted")
    wish = ExportWish.model_validate({"formats": ["merged"]})
    job = exports.create(plant.context, "expert@1", wish).id
    async with plant.working():
        for how, status, states in (("pause", "paused", "queued"), ("cancel", "cancelled", "cancelled")):
            await until(merging, "the merging process")
            began = time.monotonic()
            getattr(exports.lifecycle, how)(plant.context, job)
            await plant.until(job, status)
            await until(lambda: not merging(), "its end", 10)
            assert time.monotonic() - began < WITHIN_S
            assert set(plant.states(job)) == {states}
            if how == "pause":
                assert exports.lifecycle.resume(plant.context, job).status == "queued"
    assert exports.lifecycle.get(plant.context, job).result is None
