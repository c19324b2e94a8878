"""The real worker with its steps on a Ray cluster whose API is a real HTTP server: what a restart, a pause and a result do to step and run."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.trainer.launchers import on_cluster
from services.trainer.launchers.choose import launched, launcher_of
from services.trainer.runs import Ended, Runs
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import HANDLERS
from shared.artifacts.opening import open_artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepResult, canonical
from shared.jobs.schema import Stores, open_stores
from shared.jobs.states import StepState
from shared.platform.settings import platform_settings
from shared.queue import step_task
from shared.queue.step_task import StepRunner
from tests.fakes.ports import free_port, wait_until
from tests.fakes.ray_jobs import RayJobsServer, ray_jobs
from tests.fakes.remote_steps import host, request_of
from tests.fakes.store_moves import job_row, running, step_row

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    settings = host(tmp_path)
    for name, value in {
        "METEOR_DATA": str(settings.data),
        "METEOR_ARTIFACTS_URL": settings.artifacts_url,
        "METEOR_DISK_FLOOR_GB": "0",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }.items():
        monkeypatch.setenv(name, value)
    settings.data.mkdir()
    for module, name in ((step_task, "POLL_S"), (on_cluster, "LOOK_S")):
        monkeypatch.setattr(module, name, 0.05)
    platform_settings.cache_clear()
    yield open_stores(platform_settings().database)
    platform_settings.cache_clear()


def runner_on(ray: RayJobsServer) -> StepRunner:
    settings = TrainerSettings(launcher="ray", ray_address=ray.url)
    return StepRunner("trainer", launched(HANDLERS, launcher_of(settings, platform_settings(), HANDLERS)))


async def test_a_restarted_worker_goes_on_with_the_run_and_a_pause_ends_it(stores: Stores, new_job):
    row = running(stores, new_job(stores))
    digest = open_artifacts(platform_settings()).put(canonical(request_of().model_dump(mode="json")))
    step = stores.steps.create(row, StepKey.parse("distill/train"), StepKind.SFT, digest)
    first, second = (f"meteor-{step.id}-{number}" for number in (1, 2))
    runs = Runs(platform_settings(), step.id)

    async def until(condition: Callable[[], object]) -> None:
        await asyncio.to_thread(wait_until, condition)

    def attempt_of_owner() -> int:
        owner = runs.owner()
        return owner.attempt if owner is not None and owner.run is not None else 0

    with ray_jobs() as ray:
        leaving = runner_on(ray)
        working = asyncio.create_task(asyncio.to_thread(leaving.run, step.id))
        await until(lambda: first in ray.jobs)
        ray.jobs[first].status = "RUNNING"
        leaving.shutdown._close_writer()  # as Celery does at SIGTERM
        await working
        given_back = step_row(stores, step.id)
        assert (given_back.state, given_back.attempts) == (StepState.QUEUED, [])
        assert (ray.jobs[first].status, ray.jobs[first].stops) == ("RUNNING", 0)

        working = asyncio.create_task(asyncio.to_thread(runner_on(ray).run, step.id))
        await until(lambda: attempt_of_owner() == 2)
        stores.jobs.pause(row)
        await working
        assert (list(ray.jobs), ray.jobs[first].status) == ([first], "STOPPED")
        assert step_row(stores, step.id).state == StepState.QUEUED

        assert stores.jobs.rest(row)
        stores.jobs.resume(job_row(stores, row.id))
        running(stores, row)
        working = asyncio.create_task(asyncio.to_thread(runner_on(ray).run, step.id))
        await until(lambda: second in ray.jobs)
        result = StepResult(adapter="a" * 64, metrics={"trained_tokens": 5})
        artifacts = open_artifacts(platform_settings())
        runs.end(second, Ended(result=artifacts.put_json(result.model_dump(mode="json"))))
        await working
    done = step_row(stores, step.id)
    assert done.state == StepState.SUCCEEDED, done.error
    assert StepResult.model_validate(artifacts.get_json(done.result_ref)) == result
    assert runs.owner() is None
