"""The orchestrator's loop: take jobs, run them, renew their leases, reap what was lost. Any number of these may run."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError

from services.orchestrator import canaries, integrations
from services.orchestrator.jobs.failing import fail
from services.orchestrator.jobs.kinds import KINDS, Dependencies
from services.orchestrator.runtime.run import NOTE_S, DurableRun, PauseHere
from services.orchestrator.runtime.steps import StepClient
from services.orchestrator.settings import OrchestratorSettings
from shared.artifacts.bases import Bases
from shared.artifacts.opening import open_artifacts, open_uploads
from shared.contracts.errors import MeteorError, TransientError
from shared.contracts.jobs import JobKind, JobStatus, budget_of
from shared.datasets.files import remove_expired
from shared.jobs.heartbeat import Heartbeat
from shared.jobs.records import JobRecord
from shared.jobs.retention import collect, prune_audit, prune_chats
from shared.jobs.schema import Stores
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tallies import Tally
from shared.ledger.store import Ledger
from shared.platform import tracing
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
LOOK_S = 1.0
ALL_DONE = {"percent": 100.0, "done": 1.0, "total": 1.0, "eta_seconds": 0.0}
GIVE_BACK_S = 3.5  # how long workers have to give a pausing job's steps back: with LOOK_S a pause takes 5 s at most


@dataclass(eq=False)
class HeldJob:
    """A job that this process runs. to_stop: it is to end or to pause, or another orchestrator holds it."""

    row: JobRecord
    to_stop: asyncio.Event = field(default_factory=asyncio.Event)


class Orchestrator:
    def __init__(self, stores: Stores, ledger: Ledger, platform: PlatformSettings, settings: OrchestratorSettings):
        self.stores = stores
        self.ledger = ledger
        self.platform = platform
        self.settings = settings
        self.owner = f"orchestrator@{socket.gethostname()}:{os.getpid()}"
        self.artifacts, self.uploads = open_artifacts(platform), open_uploads(platform)
        self.steps = StepClient(stores, self.artifacts, platform)
        self.heartbeat = Heartbeat(lambda: stores, self.owner, "orchestrator", None, settings.max_jobs)
        self._jobs: set[asyncio.Task[None]] = set()
        self._held: list[HeldJob] = []
        self._renewed_at = 0.0
        self.bases = Bases()

    async def run_forever(self) -> None:
        """Until cancelled; running jobs are then released, so that another orchestrator takes them at once."""
        async with asyncio.TaskGroup() as group:
            for part in (
                self.steps.listen(),
                self.steps.poll(),
                self._every(LOOK_S, self._take_job),
                self._every(LOOK_S, self._look_at_held),
                self._every(LOOK_S, self._reap),
                self._every(LOOK_S, self._look_at_canaries),
                self._every(self.platform.renew.total_seconds(), self._beat),
                *([self._every(LOOK_S, self._send_metrics)] if self.platform.integration_types else []),
                self._every(self.settings.collect_every.total_seconds(), self._collect),
            ):
                group.create_task(part)

    async def drain(self) -> None:
        for task in list(self._jobs):
            task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._beat(stopping=True)

    async def _every(self, seconds: float, action) -> None:
        while True:
            try:
                await action()
            except DBAPIError as error:
                log.warning("database away, trying again", error=str(error))
            await asyncio.sleep(seconds)

    async def _take_job(self) -> None:
        while len(self._jobs) < self.settings.max_jobs:
            row = await asyncio.to_thread(self.stores.jobs.claim, self.owner, self._lease_s)
            if row is None:
                return
            log.info("job taken", job=row.id, attempt=row.attempt)
            task = asyncio.create_task(self._hold(row))
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    async def _reap(self) -> None:
        """End lost attempts, say so, and send what waits without a message."""
        for row in await asyncio.to_thread(self.stores.steps.reap, self.platform.max_attempts):
            log.warning("worker lost", step_key=row.key, job=row.job_id, worker=row.lease_owner, attempt=row.attempt)
            job = await asyncio.to_thread(self.stores.jobs.get, row.job_id)
            message = f"step {row.key}: worker {row.lease_owner} was lost in attempt {row.attempt}; the step goes on elsewhere"
            if job is not None:
                await asyncio.to_thread(self.stores.jobs.add_event, job, message, level="warn")
        for step_id, queue in await asyncio.to_thread(
            self.stores.steps.unsent, self.platform.resend_after.total_seconds()
        ):
            await asyncio.to_thread(self.steps.resend, step_id, queue)

    async def _look_at_canaries(self) -> None:
        await asyncio.to_thread(canaries.look, self.stores)

    async def _send_metrics(self) -> None:
        await asyncio.to_thread(integrations.send_due, self.stores, self.artifacts, self.platform)

    async def _collect(self) -> None:
        """Remove what nobody needs any more; a folder that cannot be read now is tried again next time."""
        try:
            expired = await asyncio.to_thread(remove_expired, self.stores.catalog, self.uploads)
            pruned = await asyncio.to_thread(prune_audit, self.stores.retention, self.platform)
            chats = await asyncio.to_thread(prune_chats, self.stores.chats, self.platform)
            collected = await asyncio.to_thread(collect, self.stores.retention, self.artifacts, self.platform)
        except (MeteorError, OSError) as error:
            log.warning("nothing is removed from the data folder", reason=str(error))
            return
        if expired or pruned or chats or (collected is not None and collected.removed):
            log.info(
                "removed what nobody needs",
                audit_entries=pruned,
                stored_chats=chats,
                expired_files=expired,
                **(asdict(collected) if collected is not None else {}),
            )

    async def _beat(self, stopping: bool = False) -> None:
        await asyncio.to_thread(self.heartbeat.beat, stopping)

    @property
    def _lease_s(self) -> float:
        return self.platform.lease.total_seconds()

    async def _hold(self, row: JobRecord) -> None:
        """Run one job while its lease is renewed, until it is done, cancelled, paused or taken over."""
        self._held.append(held := HeldJob(row))
        work = asyncio.create_task(self._run(row))
        stopped = asyncio.create_task(held.to_stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await asyncio.to_thread(self.stores.jobs.release, row)
            raise
        finally:
            stopped.cancel()
            self._held.remove(held)
        if work.done():
            work.result()
        else:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        try:
            await self._settle(row)
        except DBAPIError as error:
            log.warning("database away, the job is settled when its lease has ended", job=row.id, error=str(error))

    async def _settle(self, row: JobRecord) -> None:
        """Bring a job that nothing of ours runs any more to where it was asked to go."""
        job = await asyncio.to_thread(self.stores.jobs.get, row.id)
        if job is None or job.attempt != row.attempt:
            return
        if job.status == JobStatus.PAUSING:
            await self._pause(row)
            job = await asyncio.to_thread(self.stores.jobs.get, row.id)
        if job is not None and job.status == JobStatus.CANCELLING:
            stopped = await asyncio.to_thread(self.stores.steps.cancel_of_job, row.id)
            await asyncio.to_thread(self.stores.jobs.end, row, JobStatus.CANCELLED)
            log.info("job cancelled", job=row.id, steps_stopped=stopped)
        if tracing.is_on():
            await asyncio.to_thread(self._trace, row)

    def _trace(self, row: JobRecord) -> None:
        """The span of a job that has ended."""
        job = self.stores.jobs.get(row.id)
        if job is None or job.status not in FINAL_JOBS or job.finished_at is None:
            return
        tracing.tell_job(
            job.id,
            job.traceparent,
            f"job {job.kind}",
            job.created_at,
            job.finished_at,
            str(job.error.code) if job.error else None,
            meteor__job__id=job.id,
            meteor__job__status=str(job.status),
        )

    async def _pause(self, row: JobRecord) -> None:
        """Once the workers have given its steps back the job rests; a worker that is too slow for that comes too late."""
        latest = time.monotonic() + GIVE_BACK_S
        while await asyncio.to_thread(self.stores.steps.count_running, row.id):
            await asyncio.sleep(GIVE_BACK_S / 20)
            if time.monotonic() > latest:
                break
        if await asyncio.to_thread(self.stores.jobs.rest, row):
            log.info("job paused", job=row.id)

    async def _look_at_held(self) -> None:
        """Renew the leases of all jobs that run here, and stop those that are to end or to pause, or that were taken over."""
        held = list(self._held)
        if not held:
            return
        due = time.monotonic() - self._renewed_at >= self.platform.renew.total_seconds()
        rows = [job.row for job in held]
        statuses = await asyncio.to_thread(self.stores.jobs.look, rows, self._lease_s if due else None)
        if due:
            self._renewed_at = time.monotonic()
        for job in held:
            if statuses.get((job.row.id, job.row.attempt)) != JobStatus.RUNNING:
                job.to_stop.set()

    async def _run(self, row: JobRecord) -> None:
        run = None
        try:
            kind = KINDS[JobKind(row.kind)]
            budget = budget_of(row.kind, row.request)
            await asyncio.to_thread(self.ledger.set_budget, row.id, budget, change=False, key_id=row.key_id)
            run = await kind.open(Dependencies(self.steps, self.ledger, self.bases), row)
            made = await self._noting(run, kind.work(run))
        except* (DBAPIError, TransientError) as errors:
            log.warning("job interrupted, it will be taken up again", job=row.id, error=repr(errors.exceptions[0]))
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.stores.jobs.release, row)
        except* PauseHere as pauses:
            here = next(error for error in pauses.exceptions if isinstance(error, PauseHere))
            await asyncio.to_thread(self.stores.jobs.rest, row, here.reason, here.stage)
            log.info("job paused", job=row.id, after=here.stage)
        except* Exception as errors:
            await fail(self.stores, row, _first(errors), run)
        else:
            values: dict[str, Any] = {"phase": None, "progress": ALL_DONE} | made
            ended = await asyncio.to_thread(self.stores.jobs.end, row, JobStatus.SUCCEEDED, **values)
            if ended and (error := run.eta_error.at_end()) is not None:
                await asyncio.to_thread(self.stores.tallies.count, Tally.ETA_ERROR, amount=error)

    async def _noting(self, run: DurableRun, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        notes = asyncio.create_task(self._every(NOTE_S, run.note_progress))
        try:
            return await work
        finally:
            notes.cancel()


def _first(error: BaseException) -> BaseException:
    """The first real cause inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
