"""The real workers of three queues, with the real gateway and a fake teacher and engine behind them: cancelled, paused, killed
in the middle of a batch, told to end. The trainer's steps are stopped in test_trainer.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.artifacts.store import Artifacts
from shared.contracts.jobs import JobStatus
from shared.contracts.rows import JudgeInput, StudentPrompt, TeacherInput
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import (
    JudgeParams,
    ModelRef,
    Queue,
    Sampling,
    StepKind,
    StudentParams,
    TeachParams,
)
from shared.jobs.schema import Stores, open_stores
from shared.platform.settings import platform_settings
from shared.queue.app import celery_app, send
from tests.conftest import job_of_default_project
from tests.fakes.gateway import PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.start import FakeServer, start_engine, start_teacher

WORKERS = {
    Queue.STRONG: ["services.strong_model", "worker"],
    Queue.JUDGE: ["services.judge"],
    Queue.WEAK: ["services.weak_model", "worker"],
}
SAMPLING = Sampling(max_tokens=20)
MODEL = ModelRef(base="tiny", base_hash="0" * 64)


class Plant:
    """The workers, and jobs whose steps they run."""

    def __init__(self, data: Path, gateway: Gateway, engine: FakeServer, broker: str, new_job: Callable):
        self.gateway, self.engine, self.new_job = gateway, engine, new_job
        self.environment = {
            "METEOR_DATA": str(data), "REDIS_URL": broker, "METEOR_KEY_PREFIX": "plant:", "METEOR_INTERNAL_TOKEN": TOKEN,
            "METEOR_LEASE": "PT3S", "METEOR_RENEW": "PT1S", "METEOR_STRONG_GATEWAY_URL": gateway.url,
            "METEOR_JUDGE_GATEWAY_URL": gateway.url, "METEOR_WEAK_ENGINE_URL": engine.url, "METEOR_STRONG_SLOTS": "1",
            "METEOR_JUDGE_SLOTS": "1", "METEOR_WEAK_SLOTS": "1",
        }  # fmt: skip
        self.artifacts = Artifacts(data / "artifacts")
        self.stores: Stores = open_stores(f"sqlite:///{(data / 'meteor.sqlite3').resolve()}")
        self.workers = {queue: self.start(queue) for queue in WORKERS}

    def start(self, queue: Queue) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", *WORKERS[queue]], env=os.environ | self.environment)

    def ready(self) -> None:
        pids = {f":{worker.pid}" for worker in self.workers.values()}

        def seen() -> set[str]:
            return {pid for pid in pids for row in self.stores.jobs.live_workers(60) if row.id.endswith(pid)}

        wait_until(lambda: seen() == pids, 90, "all workers")

    def job(self) -> Any:
        made = self.new_job(self.stores)
        row: Any = self.stores.jobs.claim("test", 600)
        assert row.id == made.id
        return row

    def step(self, job: Any, kind: StepKind, rows: int, salt: str) -> str:
        numbers = range(rows)
        params, items = {
            StepKind.TEACH: lambda: (
                TeachParams(teacher="default", domain="d", sampling=SAMPLING),
                [TeacherInput(id=str(n), question=f"{salt} {n}") for n in numbers],
            ),
            StepKind.REVIEW: lambda: (
                JudgeParams(judge="default", domain="d", sampling=SAMPLING),
                [JudgeInput(id=str(n), question=f"{salt} {n}", answer="a") for n in numbers],
            ),
            StepKind.ANSWER: lambda: (
                StudentParams(model=MODEL, domain="d", sampling=SAMPLING),
                [StudentPrompt(id=str(n), question=f"{salt} {n}") for n in numbers],
            ),
        }[kind]()
        request = step_request(kind, params, [item.model_dump(mode="json") for item in items])
        digest = self.artifacts.put_json(request.model_dump(mode="json"))
        row = self.stores.steps.create(job, StepKey.parse(f"distill/{kind}/{salt}"), kind, digest)
        send(row.id, kind.queue)
        return row.id

    def all_kinds(self, job: Any, salt: str) -> dict[StepKind, str]:
        """One running step of each kind, its calls on their way."""
        asked = len(self.gateway.teacher.log()), len(self.engine.log())
        made = {kind: self.step(job, kind, 3, salt) for kind in (StepKind.TEACH, StepKind.REVIEW, StepKind.ANSWER)}
        wait_until(lambda: len(self.gateway.teacher.log()) - asked[0] == 6, 60, "calls to the teacher")
        wait_until(lambda: len(self.engine.log()) - asked[1] == 3, 60, "calls to the engine")
        return made

    def row(self, step_id: str) -> Any:
        return self.stores.steps.get(step_id)

    def slow(self, seconds: float) -> None:
        for server in (self.gateway.teacher, self.engine):
            server.latency(seconds)

    def still_asked(self, salt: str) -> int:
        """Calls of some steps that teacher and engine still work on."""
        logged = self.gateway.teacher.log() + self.engine.log()
        return sum(entry["outcome"] is None and f"{salt} " in str(entry["messages"]) for entry in logged)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[Plant]:
    data = tmp_path_factory.mktemp("plant")
    with (
        pytest.MonkeyPatch.context() as patch,
        start_teacher("--api-key", "sk-teacher-key") as teacher,
        start_engine() as engine,
        running_gateway(teacher, data, **PATIENT) as gateway,
    ):
        made = Plant(data, gateway, engine, _valkey_server, job_of_default_project)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        platform_settings.cache_clear()
        celery_app.cache_clear()
        try:
            made.ready()
            yield made
        finally:
            for worker in made.workers.values():
                kill_family(worker)
            celery_app().close()
            platform_settings.cache_clear()
            celery_app.cache_clear()


def kill_family(worker: subprocess.Popen) -> None:
    if worker.poll() is None:
        for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
            process.kill()
    worker.wait()


def test_a_batch_that_was_killed_after_forty_answers_pays_for_the_others_only(plant: Plant):
    """The gateway keeps answers and finishes what was sent: nothing at all is paid for twice."""
    job = plant.job()
    plant.gateway.teacher.fault("slow", skip=40, seconds=15)
    step = plant.step(job, StepKind.TEACH, 64, "killed")

    def answered() -> int:
        return sum(entry["outcome"] == "answered" for entry in plant.gateway.teacher.log())

    wait_until(
        lambda: (answered(), len(plant.gateway.teacher.log())) == (40, 48), 60, "forty answers, eight on their way"
    )
    kill_family(plant.workers[Queue.STRONG])
    wait_until(lambda: answered() == 48, 60)
    assert len(plant.gateway.teacher.log()) == 48, "calls were sent for nobody"
    plant.workers[Queue.STRONG] = plant.start(Queue.STRONG)
    wait_until(lambda: [lost.id for lost in plant.stores.steps.reap(4)] == [step], 60, "the end of its lease")
    plant.gateway.teacher.heal()
    send(step, Queue.STRONG)
    wait_until(lambda: plant.row(step).state == "succeeded", 90, "the second attempt")
    asked = [str(entry["messages"]) for entry in plant.gateway.teacher.log()]
    assert len(asked) == len(set(asked)) == 64, "a call was paid for twice"
    rows = plant.gateway.rows()
    assert sum(row.outcome == "ok" and not row.cached for row in rows) == 64
    assert sum(row.cached for row in rows) == 48
    result = plant.artifacts.get_json(plant.row(step).result_ref)
    assert [row["id"] for row in result["rows"]] == [str(n) for n in range(64)]
    (first,) = plant.row(step).attempts
    assert first.error.code == "worker_lost"
    plant.stores.jobs.cancel(job)


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_each_kind_of_worker_lets_go_within_five_seconds(plant: Plant, how: str):
    plant.ready()
    job = plant.job()
    plant.slow(50 if how == "cancel" else 15)  # the latter calls are finished, and make room for those of the next test
    steps = plant.all_kinds(job, how)
    began = time.monotonic()
    getattr(plant.stores.jobs, how)(job)
    if how == "pause":
        wait_until(lambda: not plant.stores.steps.count_running(job.id), 60)
        assert time.monotonic() - began < 5
        assert {plant.row(step).state for step in steps.values()} == {"queued"}
        assert plant.still_asked("pause") == 6, "what was sent to the teacher is finished and kept"
    else:
        wait_until(lambda: not plant.still_asked("cancel"), 60)
        assert time.monotonic() - began < 5
    plant.slow(0)
    other = plant.new_job(plant.stores)  # the workers are free: they take other work at once
    plant.stores.jobs.rest(job) if how == "pause" else plant.stores.jobs.end(job, JobStatus.CANCELLED)
    taken = plant.stores.jobs.claim("test", 600)
    assert taken is not None
    assert taken.id == other.id
    after = [plant.step(other, kind, 1, f"after {how}") for kind in steps]
    wait_until(lambda: all(plant.row(step).state == "succeeded" for step in after), 60)


def test_everybody_ends_within_ten_seconds_and_gives_back_what_runs(plant: Plant):
    plant.ready()
    job = plant.job()
    plant.slow(50)
    steps = plant.all_kinds(job, "ending")
    began = time.monotonic()
    for process in (*plant.workers.values(), plant.gateway.process):
        process.send_signal(signal.SIGTERM)
    for process in (*plant.workers.values(), plant.gateway.process):
        process.wait(10 - (time.monotonic() - began))
    for step in steps.values():
        row = plant.row(step)
        assert (row.state, row.lease_owner, row.attempts) == ("queued", None, [])
    gone = {f":{worker.pid}" for worker in plant.workers.values()}  # one that an earlier test killed said nothing
    living = [row.id for row in plant.stores.jobs.live_workers(60)]
    assert not [name for name in living if name.endswith(tuple(gone))], "they said goodbye"
