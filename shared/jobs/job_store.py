"""Every move of a job and its events, one short transaction each. `states.JOB_MOVES` lists the allowed moves."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Text, and_, cast, or_, select, tuple_, update

from shared.contracts.distillation import Budget
from shared.contracts.errors import BudgetExceeded, Conflict, ErrorBody
from shared.contracts.jobs import AnyRequest, ForkedFrom, JobKind, JobRequest, JobStatus, budget_of, with_budget
from shared.contracts.json_types import Json
from shared.contracts.masking import masked
from shared.db.engine import Values, reading, upsert, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.lease import FREE, claimed, held, unowned
from shared.db.paging import keyset_page
from shared.jobs.job_moves import (
    Prices,
    add_event,
    count_ended,
    insert_job,
    may_begin,
    may_still_begin,
    move_to,
    taken_over,
    why_not,
)  # fmt: skip
from shared.jobs.records import EventRecord, JobRecord, WorkerRecord
from shared.jobs.states import ACTIVE_JOBS, FINAL_JOBS, RESTING_JOBS, sources
from shared.jobs.step_moves import cancel_steps, requeue_steps
from shared.jobs.tables import events, jobs, workers

LOOKED_AT_ONCE = 500  # jobs of one statement
ASKED_TO_PAUSE = "paused by request; resume it to go on"
# Prefixes of status reasons: the job pauses or paused because of its budget; the budget was raised while it was pausing.
OVER_BUDGET, RAISED = f"{BudgetExceeded.code}: ", "budget raised: "


class JobStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def create(
        self,
        project_id: str,
        request: AnyRequest,
        prices: Prices = None,
        forked_from: ForkedFrom | None = None,
        key_id: str | None = None,
        job_id: str | None = None,
    ) -> JobRecord:
        """key_id: the API key that posted the job. job_id: one that was drawn before, so that a repeated attempt makes one job."""
        with writing(self.engine) as connection:
            return insert_job(connection, project_id, request, prices, forked_from, key_id, job_id)

    def create_all(
        self, project_id: str, requests: Sequence[JobRequest], prices: Prices = None, key_id: str | None = None
    ) -> list[JobRecord]:
        """All of them or none. prices: by provider at this time, None if unknown."""
        with writing(self.engine) as connection:
            return [insert_job(connection, project_id, request, prices, key_id=key_id) for request in requests]

    def get(self, job_id: str, project_id: str | None = None, kind: JobKind | None = None) -> JobRecord | None:
        """project_id, kind: None for any; a job of another project or kind counts as absent."""
        query = select(jobs).where(jobs.c.id == job_id)
        if project_id is not None:
            query = query.where(jobs.c.project_id == project_id)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with reading(self.engine) as connection:
            return fetch_first(connection, JobRecord, query)

    def page(
        self,
        project_id: str,
        after: str | None,
        limit: int,
        status: str | None = None,
        metadata: Mapping[str, str] | None = None,
        kind: JobKind = JobKind.DISTILLATION,
    ) -> tuple[list[JobRecord], bool]:
        """Newest first. metadata: pairs that a job must have; empty: jobs without metadata. Raises UserError for an unknown `after`,
        whatever its status."""
        mine = (jobs.c.project_id == project_id) & (jobs.c.kind == kind)
        query = select(jobs).where(mine)
        if status:
            query = query.where(jobs.c.status == status)
        if metadata is not None and not metadata:
            query = query.where(cast(jobs.c.request["metadata"], Text) == "{}")
        for name, value in (metadata or {}).items():
            query = query.where(jobs.c.request["metadata"][name].as_string() == value)
        return keyset_page(
            self.engine, JobRecord, query, jobs.c.id, after, limit, "job", cursors=select(jobs).where(mine)
        )

    def reading_files(self, project_id: str, file_ids: Collection[str]) -> list[JobRecord]:
        """Distillation jobs whose training or validation file is one of these."""
        reads = or_(jobs.c.file_id.in_(file_ids), jobs.c.request["validation_file"].as_string().in_(file_ids))
        return self._distillations(project_id, reads) if file_ids else []

    def continuing(self, project_id: str, versions: Collection[str]) -> list[JobRecord]:
        """Distillation jobs that go on from one of these versions (alias@version)."""
        return self._distillations(project_id, jobs.c.request["model"].as_string().in_(versions)) if versions else []

    def exporting(self, project_id: str, versions: Collection[str]) -> list[JobRecord]:
        """Exports of these versions (alias@version)."""
        mine = (jobs.c.project_id == project_id) & (jobs.c.kind == JobKind.EXPORT)
        of_them = jobs.c.request["model"].as_string().in_(versions)
        with reading(self.engine) as connection:
            return fetch_all(connection, JobRecord, select(jobs).where(mine, of_them).order_by(jobs.c.id))

    def _distillations(self, project_id: str, condition: ColumnElement[bool]) -> list[JobRecord]:
        mine = (jobs.c.project_id == project_id) & (jobs.c.kind == JobKind.DISTILLATION)
        with reading(self.engine) as connection:
            return fetch_all(connection, JobRecord, select(jobs).where(mine, condition).order_by(jobs.c.id))

    def claim(self, owner: str, lease_s: float) -> JobRecord | None:
        """Take the oldest job that has no owner: a queued one, or an active one whose orchestrator was lost."""
        now = time.time()
        with writing(self.engine) as connection:
            free = or_(may_begin(), and_(jobs.c.status.in_(ACTIVE_JOBS), unowned(jobs, now)))
            query = select(jobs).where(free).order_by(jobs.c.created_at).limit(1).with_for_update(skip_locked=True)
            job = fetch_first(connection, JobRecord, query)
            if job is None or (job.status == JobStatus.QUEUED and not may_still_begin(connection, job)):
                return None
            status = JobStatus.RUNNING if job.status == JobStatus.QUEUED else job.status
            values = claimed(jobs, owner, now + lease_s) | {"status": status, "started_at": job.started_at or now}
            changed = update(jobs).where(jobs.c.id == job.id).values(**values).returning(jobs)
            job = fetch_one(connection, JobRecord, changed)
            message = "job started" if job.attempt == 1 else "job taken up again; finished steps are kept"
            add_event(connection, job, "info", "status", message, {"status": status, "attempt": job.attempt})
        return job

    def look(self, held_jobs: Sequence[JobRecord], lease_s: float | None = None) -> dict[tuple[str, int], JobStatus]:
        """The present status by id and attempt of these jobs, without those that another attempt holds. lease_s: renew the leases of
        the active ones for so many seconds, and leave the others out."""
        statuses: dict[tuple[str, int], JobStatus] = {}
        seen = (jobs.c.id, jobs.c.attempt, jobs.c.status)
        for start in range(0, len(held_jobs), LOOKED_AT_ONCE):
            pairs = [(job.id, job.attempt) for job in held_jobs[start : start + LOOKED_AT_ONCE]]
            ours = and_(jobs.c.id.in_([job_id for job_id, _ in pairs]), tuple_(jobs.c.id, jobs.c.attempt).in_(pairs))
            if lease_s is None:
                with reading(self.engine) as connection:
                    rows = connection.execute(select(*seen).where(ours)).all()
            else:
                renewed = update(jobs).where(ours, jobs.c.status.in_(ACTIVE_JOBS))
                renewed = renewed.values(lease_expires=time.time() + lease_s).returning(*seen)
                with writing(self.engine) as connection:
                    rows = connection.execute(renewed).all()
            statuses |= {(row.id, row.attempt): JobStatus(row.status) for row in rows}
        return statuses

    def release(self, job: JobRecord) -> None:
        """End the lease, so that another orchestrator may claim the job at once."""
        with writing(self.engine) as connection:
            released = update(jobs).where(held(jobs, job.id, job.attempt))
            connection.execute(released.values(lease_expires=None))

    def note(self, job: JobRecord, **values: Any) -> None:
        """Write phase, progress, evaluation, ... while this attempt holds the job."""
        # a pausing job keeps the reason of its pause
        statuses = [JobStatus.RUNNING] if "status_reason" in values else ACTIVE_JOBS
        changed = update(jobs).where(held(jobs, job.id, job.attempt), jobs.c.status.in_(statuses)).values(**values)
        with writing(self.engine) as connection:
            connection.execute(changed)

    def end(self, job: JobRecord, status: JobStatus, error: ErrorBody | None = None, **values: Any) -> bool:
        """Move to a final status. False: the present status does not allow it (a job cancelled in between, for example)."""
        values |= FREE | {"status": status, "finished_at": time.time(), "error": error.model_dump() if error else None}
        allowed = (held(jobs, job.id, job.attempt), jobs.c.status.in_(sources(status)))
        with writing(self.engine) as connection:
            ended = fetch_first(connection, JobRecord, update(jobs).where(*allowed).values(**values).returning(jobs))
            if ended is None:
                return False
            message = f"job failed: {error.message}" if error else f"job {status.value}"
            message += taken_over(connection, job.id)
            add_event(connection, ended, "error" if error else "info", "status", message, {"status": status})
            count_ended(connection, ended)
        return True

    def cancel(self, job: JobRecord) -> JobRecord:
        """Cancel at once if nothing runs, else ask the orchestrator to. Raises Conflict on a finished job."""
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if now.status in FINAL_JOBS:
                raise Conflict(f"job {job.id} is already {now.status}", code="job_finished")
            idle = now.status in sources(JobStatus.CANCELLED) and now.status != JobStatus.CANCELLING
            status = JobStatus.CANCELLED if idle else JobStatus.CANCELLING
            if status == now.status:
                return now
            if idle:  # no orchestrator holds the job and cancels its waiting steps
                connection.execute(cancel_steps(job.id))
            return move_to(connection, now, status, finished_at=time.time() if idle else None)

    def pause(self, job: JobRecord) -> JobRecord:
        """Pause at once if nothing runs, else ask the orchestrator to. Raises Conflict on a job that has ended or is being
        cancelled."""
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if now.status in RESTING_JOBS:
                return now
            idle = now.status == JobStatus.QUEUED
            status = JobStatus.PAUSED if idle else JobStatus.PAUSING
            if now.status not in sources(status):
                raise Conflict(f"job {job.id} is {now.status} and cannot be paused", code=why_not(now.status))
            reason = ASKED_TO_PAUSE if idle else now.status_reason
            return move_to(connection, now, status, status_reason=reason)

    def pause_over_budget(self, job_id: str, reason: str) -> bool:
        """Pause a job whose next call might exceed its budget. False: its budget says that it fails instead."""
        with writing(self.engine) as connection:
            now = _locked(connection, job_id)
            if budget_of(now.kind, now.request).on_exceed == "fail":
                return False
            if now.status == JobStatus.RUNNING:
                data = {"code": BudgetExceeded.code}
                add_event(connection, now, "warn", "budget", reason, data)
                move_to(connection, now, JobStatus.PAUSING, status_reason=OVER_BUDGET + reason)
        return True

    def change(self, job: JobRecord, budget: Budget | None, metadata: Mapping[str, str] | None) -> JobRecord:
        """Set what a budget names of its limits, and metadata (None: unchanged). A job that paused because of its budget resumes.

        Raises Conflict on a new budget for a job that has ended.
        """
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if budget is not None and now.status in FINAL_JOBS:
                raise Conflict(f"job {job.id} is already {now.status}; it spends no more", code="job_finished")
            if budget is not None:
                budget = changed_budget(now, budget)
            request = dict(now.request) if budget is None else with_budget(now.kind, now.request, budget)
            if metadata is not None:
                request["metadata"] = dict(metadata)
            values: Values = {"request": request}
            waits = budget is not None and (now.status_reason or "").startswith(OVER_BUDGET)
            if waits and now.status == JobStatus.PAUSING:
                values["status_reason"] = RAISED + "goes on at once"
            now = fetch_one(
                connection, JobRecord, update(jobs).where(jobs.c.id == job.id).values(**values).returning(jobs)
            )
            if budget is not None:
                add_event(connection, now, "info", "budget", "budget changed", {"budget": budget.model_dump()})
            if waits and now.status == JobStatus.PAUSED:
                return move_to(connection, now, JobStatus.QUEUED, "job resumed and queued", status_reason=None)
            return now

    def set_source(self, job: JobRecord, source: Json) -> JobRecord:
        """Another `source` of an import. Raises Conflict on a job that has ended."""
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if now.status in FINAL_JOBS:
                raise Conflict(f"job {job.id} is already {now.status}", code="job_finished")
            values: Values = {"request": dict(now.request) | {"source": source}}
            changed = update(jobs).where(jobs.c.id == job.id).values(**values)
            return fetch_one(connection, JobRecord, changed.returning(jobs))

    def rest(self, job: JobRecord, reason: str = ASKED_TO_PAUSE, after: str | None = None) -> bool:
        """Pause a job that this attempt holds; its steps are queued again. after: the stage that its `pause_after` names.

        False: another attempt holds it, or it is being cancelled.
        """
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if now.attempt != job.attempt or now.status not in (JobStatus.RUNNING, JobStatus.PAUSING):
                return False
            connection.execute(requeue_steps(job.id))
            values = FREE | {"status_reason": reason}
            values |= {"paused_after": after} if after else {}
            if (now.status_reason or "").startswith(OVER_BUDGET):
                values["status_reason"] = now.status_reason
            paused = move_to(connection, now, JobStatus.PAUSED, **values)
            if (now.status_reason or "").startswith(RAISED):
                move_to(connection, paused, JobStatus.QUEUED, "job resumed and queued", status_reason=None)
        return True

    def resume(self, job: JobRecord) -> JobRecord:
        """Queue a paused job again. Raises Conflict on any other status."""
        with writing(self.engine) as connection:
            now = _locked(connection, job.id)
            if now.status == JobStatus.PAUSING:
                raise Conflict(f"job {job.id} is still pausing; resume it when it is paused", code="job_pausing")
            if now.status != JobStatus.PAUSED:
                raise Conflict(f"job {job.id} is {now.status}; only a paused job is resumed", code=why_not(now.status))
            return move_to(connection, now, JobStatus.QUEUED, "job resumed and queued", status_reason=None)

    def add_event(
        self,
        job: JobRecord,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: dict | None = None,
        once: bool = False,
    ) -> None:
        """once: skip an event that the job already has; a replay after a crash repeats its events."""
        message = masked(message)
        with writing(self.engine) as connection:
            # the lock commits a job's events in the order of their sequence, so a reader with a cursor misses none
            connection.execute(select(jobs.c.id).where(jobs.c.id == job.id).with_for_update(key_share=True))
            if once:
                same = select(events.c.sequence).where(
                    events.c.job_id == job.id, events.c.type == type, events.c.message == message
                )
                if connection.execute(same.limit(1)).first() is not None:
                    return
            add_event(connection, job, level, type, message, data)

    def events(self, job_id: str, after: int = 0, limit: int = 100, newest_first: bool = False) -> list[EventRecord]:
        """By sequence, from `after` on (newest_first: before it, falling)."""
        query = select(events).where(events.c.job_id == job_id)
        if newest_first:
            query = query.where(events.c.sequence < after) if after else query
            query = query.order_by(events.c.sequence.desc())
        else:
            query = query.where(events.c.sequence > after).order_by(events.c.sequence)
        with reading(self.engine) as connection:
            return fetch_all(connection, EventRecord, query.limit(limit))

    def heartbeat(
        self, worker: str, project_id: str, service: str, queue: str | None, slots: int, stopping: bool = False
    ):
        """Record that a process is alive and how many steps of its queue it runs at once."""
        values = {"service": service, "queue": queue, "slots": slots, "stopping": stopping, "seen_at": time.time()}
        with writing(self.engine) as connection:
            upsert(connection, workers, values | {"id": worker, "project_id": project_id})

    def live_workers(self, within_s: float) -> list[WorkerRecord]:
        with reading(self.engine) as connection:
            query = select(workers).where(workers.c.seen_at > time.time() - within_s, workers.c.stopping.is_(False))
            return fetch_all(connection, WorkerRecord, query)


def changed_budget(job: JobRecord, change: Budget) -> Budget:
    """The job's budget with the limits that the change names."""
    before = budget_of(job.kind, job.request).model_dump()
    return Budget.model_validate(before | change.model_dump(exclude_unset=True))


def _locked(connection: Connection, job_id: str) -> JobRecord:
    return fetch_one(connection, JobRecord, select(jobs).where(jobs.c.id == job_id).with_for_update())
