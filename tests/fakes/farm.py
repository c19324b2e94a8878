"""Real Celery workers (tests.fakes.worker) on a broker and a database, and the job whose steps they run."""

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.artifacts.store import Artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Queue, StepKind, StepRequest
from shared.jobs.schema import Stores, open_stores
from shared.platform.settings import platform_settings
from shared.queue.app import celery_app, send
from tests.fakes.ports import wait_until

LEASE = {"METEOR_LEASE": "PT3S", "METEOR_RENEW": "PT1S", "METEOR_RESEND_AFTER": "PT2S", "METEOR_MAX_ATTEMPTS": "3"}


class Farm:
    """Workers on one broker and database, and a job whose steps they run."""

    def __init__(self, folder: Path, broker: str, database: str, new_job: Callable):
        self.folder, self.broker, self.database = folder, broker, database
        self.environment = {
            **LEASE, "METEOR_DATA": str(folder), "DATABASE_URL": database, "REDIS_URL": broker,
            "METEOR_KEY_PREFIX": "farm:",
        }  # fmt: skip
        self.stores: Stores = open_stores(database)
        self.artifacts = Artifacts(folder / "artifacts")
        new_job(self.stores)
        self.job: Any = self.stores.jobs.claim("test", 600)
        self.workers: list[subprocess.Popen] = []

    def worker(self, slots: int = 1) -> subprocess.Popen:
        argv = [sys.executable, "-m", "tests.fakes.worker", str(slots)]
        worker = subprocess.Popen(argv, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL)
        self.workers.append(worker)
        wait_until(lambda: self.beats(worker), 60, "the worker's heartbeat")
        return worker

    def beats(self, worker: subprocess.Popen) -> bool:
        return any(row.id.endswith(f":{worker.pid}") for row in self.stores.jobs.live_workers(5))

    def seen_at(self, worker: subprocess.Popen) -> float:
        return max(row.seen_at for row in self.stores.jobs.live_workers(600) if row.id.endswith(f":{worker.pid}"))

    def step(self, do: str, number: int = 0, **params: Any) -> str:
        """Create a step, send its message; returns its id."""
        request = StepRequest(
            kind=StepKind.TEACH, version=1, params={"do": do, "n": number, **params}, rows=[{"id": "a"}]
        )
        digest = self.artifacts.put_json(request.model_dump(mode="json"))
        row = self.stores.steps.create(self.job, StepKey.parse(f"distill/{do}/{number}"), StepKind.TEACH, digest)
        self.send(row.id)
        return row.id

    def send(self, step_id: str) -> None:
        send(step_id, Queue.STRONG)
        self.stores.steps.note_sent(step_id)

    def row(self, step_id: str) -> Any:
        return self.stores.steps.get(step_id)

    def wait(self, step_id: str, state: str, timeout_s: float = 20) -> Any:
        wait_until(lambda: self.row(step_id).state == state, timeout_s, f"state {state}")
        return self.row(step_id)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_call(self, beginning: str) -> str:
        wait_until(lambda: any(line.startswith(beginning) for line in self.calls()), 60, beginning)
        return next(line for line in self.calls() if line.startswith(beginning))

    def resend(self) -> int:
        """What the orchestrator's reaper does for rows without a message."""
        unsent = self.stores.steps.unsent(2)
        for step_id, queue in unsent:
            assert queue == Queue.STRONG
            self.send(step_id)
        return len(unsent)

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                kill_family(worker)


def kill_family(worker: subprocess.Popen) -> None:
    """SIGKILL to the pool processes and then the worker, as when the machine goes away."""
    for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
        process.kill()
    worker.wait()


@contextmanager
def running_farm(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Generator[Farm]:
    """With its environment in this process too; its workers end with the block."""
    for name, value in farm.environment.items():
        monkeypatch.setenv(name, value)
    platform_settings.cache_clear()
    celery_app.cache_clear()
    farm.folder.mkdir(exist_ok=True)
    yield farm
    farm.stop()
    celery_app().close()
    platform_settings.cache_clear()
    celery_app.cache_clear()
