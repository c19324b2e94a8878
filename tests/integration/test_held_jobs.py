"""How an orchestrator holds many jobs: one look for all of them, and no writing of what the row says already."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import event

from services.orchestrator import scheduler
from shared.contracts.jobs import JobStatus
from shared.jobs import job_store
from shared.jobs.schema import Stores
from tests.fakes.store_moves import LEASE_S, job_row, running
from tests.fakes.system import System


def test_one_look_tells_the_status_of_many_jobs_and_renews_the_active_ones(
    stores: Stores, new_job, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job_store, "LOOKED_AT_ONCE", 2)
    made = [new_job(stores) for _ in range(5)]
    runs, pausing, cancelling, lost, ended = held = [running(stores, job) for job in made]
    stores.jobs.pause(pausing)
    stores.jobs.cancel(cancelling)
    stores.jobs.release(lost)
    again = running(stores, lost)
    stores.jobs.end(ended, JobStatus.SUCCEEDED)
    active = {
        (runs.id, 1): JobStatus.RUNNING,
        (pausing.id, 1): JobStatus.PAUSING,
        (cancelling.id, 1): JobStatus.CANCELLING,
        (again.id, 2): JobStatus.RUNNING,
    }
    before = {job.id: job_row(stores, job.id).lease_expires for job in made}
    assert stores.jobs.look([*held, again]) == active | {(ended.id, 1): JobStatus.SUCCEEDED}
    assert {job.id: job_row(stores, job.id).lease_expires for job in made} == before
    assert stores.jobs.look([*held, again], LEASE_S + 1000) == active
    renewed = {job_id for job_id, expires in before.items() if job_row(stores, job_id).lease_expires != expires}
    assert renewed == {runs.id, pausing.id, cancelling.id, lost.id}
    assert stores.jobs.look([lost], LEASE_S) == {}
    assert stores.jobs.look([]) == {}


async def test_what_waiting_jobs_cost_does_not_grow_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "LOOK_S", 0.05)
    monkeypatch.setattr(scheduler, "NOTE_S", 0.05)
    system = System(tmp_path, monkeypatch)
    system.slots = {}  # no worker takes a step
    file = system.file()

    async def statements_of_a_second(count: int) -> int:
        while len(ids) < count:
            ids.append(system.post(file))
        async with asyncio.timeout(60):
            while not all(system.stores.steps.of_job(job_id) for job_id in ids):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # each has noted where it is
        said: list[str] = []

        def note(_connection, _cursor, statement: str, *_: object) -> None:
            said.append(statement)

        event.listen(system.stores.jobs.engine, "before_cursor_execute", note)
        await asyncio.sleep(1.0)
        event.remove(system.stores.jobs.engine, "before_cursor_execute", note)
        return len(said)

    ids: list[str] = []
    async with system.running(max_jobs=20):
        few, many = await statements_of_a_second(2), await statements_of_a_second(20)
    assert many < 1.5 * few, (few, many)
