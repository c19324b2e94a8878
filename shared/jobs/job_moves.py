"""The parts of a job's moves: statements inside the caller's transaction."""

import time
from collections.abc import Mapping
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from shared.contracts.errors import NotFound
from shared.contracts.estimate import Price
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import AnyRequest, ForkedFrom, JobKind, JobRequest, JobStatus, Named
from shared.contracts.json_types import Json
from shared.db.engine import insert_once
from shared.db.fetch import fetch_one
from shared.jobs.catalog import live_file, no_file, no_model
from shared.jobs.outbox import announce, insert_job_webhook
from shared.jobs.records import JobRecord
from shared.jobs.states import ACTIVE_JOBS, FINAL_JOBS, StepState
from shared.jobs.tables import evals, events, files, integrations, jobs, models, projects, steps
from shared.jobs.tallies import Tally, tally
from shared.platform import tracing

Prices = Mapping[str, Price] | None
PREFIX = {JobKind.DISTILLATION: "ftjob", JobKind.IMPORT: "import", JobKind.EXPORT: "export", JobKind.EVAL: "evalrun"}


def new_job_id(kind: JobKind) -> str:
    return f"{PREFIX[kind]}-{uuid_utils.uuid7().hex}"


def sibling_runs() -> ColumnElement[bool]:
    """Whether another job of the same experiment is active. An experiment's jobs run one after the other, so that common
    steps run once."""
    other = jobs.alias()
    mine, experiment = (table.c.request["metadata"][EXPERIMENT].as_string() for table in (jobs, other))
    runs = select(other.c.id).where(other.c.status.in_(ACTIVE_JOBS), experiment == mine).exists()
    return and_(mine.is_not(None), runs)  # the first part spares most jobs the look at all active ones


def project_has_capacity() -> ColumnElement[bool]:
    """Whether the job's project may have one more active job."""
    other = jobs.alias()
    active = select(func.count()).where(other.c.project_id == jobs.c.project_id, other.c.status.in_(ACTIVE_JOBS))
    limit = select(projects.c.concurrent_jobs).where(projects.c.id == jobs.c.project_id).scalar_subquery()
    return or_(limit.is_(None), active.scalar_subquery() < limit)


def may_begin() -> ColumnElement[bool]:
    """Queued, and no active job of its experiment or its project holds it back."""
    return and_(jobs.c.status == JobStatus.QUEUED, ~sibling_runs(), project_has_capacity())


def may_still_begin(connection: Connection, job: JobRecord) -> bool:
    """Checked under a lock on the project: of two orchestrators that claim at once the second sees the first one's job."""
    mine = select(projects.c.concurrent_jobs).where(projects.c.id == job.project_id)
    alone = EXPERIMENT not in (job.request.get("metadata") or {})
    if alone and connection.execute(mine).scalar_one() is None:
        return True
    connection.execute(mine.with_for_update(key_share=True))
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job.id, may_begin())).first() is not None


def insert_job(
    connection: Connection,
    project_id: str,
    request: AnyRequest,
    prices: Prices,
    forked_from: ForkedFrom | None = None,
    key_id: str | None = None,
    job_id: str | None = None,
) -> JobRecord:
    """job_id: one that was drawn before; a job that has it already stays as it is and is returned. Raises NotFound where something that it
    names was deleted since the request was checked."""
    values = {
        "id": job_id or new_job_id(request.kind),
        "project_id": project_id,
        "key_id": key_id,
        "kind": request.kind,
        "request": request.model_dump(mode="json"),
        "forked_from": forked_from.model_dump(mode="json") if forked_from else None,
        "file_id": request.reads,
        "status": JobStatus.QUEUED,
        "progress": {},
        "prices": prices,
        "attempt": 0,
        "created_at": time.time(),
        "traceparent": tracing.traceparent(),
    }
    row = insert_once(connection, jobs, values)
    if row is None:
        return fetch_one(connection, JobRecord, select(jobs).where(jobs.c.id == values["id"]))
    _check_named(connection, project_id, request.names)
    job = JobRecord(*row)
    if isinstance(request, JobRequest) and request.webhook is not None:
        insert_job_webhook(connection, job, request.webhook)
    if isinstance(request, JobRequest):
        for one in request.integrations or ():
            first = {"sequence": 0, "failures": 0, "ended": False, "next_at": job.created_at}
            mine = {"job_id": job.id, "type": one.type, "project_id": project_id}
            connection.execute(insert(integrations).values(**mine, **first))
    how = f"forked from {forked_from.job_id}" if forked_from else "created"
    add_event(connection, job, "info", "status", f"job {how} and queued", {"status": JobStatus.QUEUED})
    return job


def _check_named(connection: Connection, project_id: str, named: Named) -> None:
    """The locks: whoever deletes one of these waits, and then finds the job that needs it."""
    for file_id in sorted(set(named.files)):
        mine = (files.c.id == file_id) & (files.c.project_id == project_id) & live_file()
        if (
            connection.execute(select(files.c.id).where(mine).with_for_update(read=True, key_share=True)).first()
            is None
        ):
            raise no_file(file_id)
    if named.eval_id is not None:
        there = select(evals.c.id).where(evals.c.id == named.eval_id, evals.c.project_id == project_id)
        if connection.execute(there.with_for_update(read=True, key_share=True)).first() is None:
            raise no_eval(named.eval_id)
    if named.model is not None:
        alias, _, version = named.model.partition("@")
        number = int(version) if version.isdecimal() and len(version) < 10 else -1
        mine = or_(models.c.id == named.model, and_(models.c.alias == alias, models.c.version == number))
        one = select(models.c.deleted_at).where(models.c.project_id == project_id, mine)
        row = connection.execute(one.with_for_update(read=True, key_share=True)).first()
        if row is not None and row.deleted_at is not None:
            raise no_model(named.model)


def no_eval(eval_id: str) -> NotFound:
    return NotFound(f"no eval {eval_id!r}", param="eval_id", code="eval_not_found")


def move_to(
    connection: Connection, job: JobRecord, status: JobStatus, message: str | None = None, **values: Any
) -> JobRecord:
    """Change the status of a job whose row this transaction has locked, with an event."""
    changed = update(jobs).where(jobs.c.id == job.id).values(status=status, **values).returning(jobs)
    moved = fetch_one(connection, JobRecord, changed)
    reason = f": {moved.status_reason}" if status == JobStatus.PAUSED else ""
    add_event(connection, moved, "info", "status", message or f"job {status.value}{reason}", {"status": status})
    if status in FINAL_JOBS:
        count_ended(connection, moved)
    return moved


def count_ended(connection: Connection, job: JobRecord) -> None:
    """The transaction's last statement."""
    now = time.time()
    tally(connection, Tally.JOB, (job.kind, job.status), (job.finished_at or now) - (job.started_at or now))


def why_not(status: str) -> str:
    """The error code of a move that this status does not allow."""
    return "job_finished" if status in FINAL_JOBS else f"job_{status}"


def add_event(connection: Connection, job: JobRecord, level: str, type: str, message: str, data: Json | None) -> None:
    """One event with its webhook deliveries. job: after the event."""
    values = {"project_id": job.project_id, "job_id": job.id, "created_at": time.time()}
    values |= {"level": level, "type": type, "message": message, "data": data}
    connection.execute(insert(events).values(**values))
    announce(connection, job, type, data)


def taken_over(connection: Connection, job_id: str) -> str:
    """What to add to a job's last message: how many of its steps are other jobs' results; empty without any."""
    origin = steps.alias()
    done = select(steps.c.id, origin.c.job_id).outerjoin(origin, origin.c.id == steps.c.reused_from)
    done = done.where(steps.c.job_id == job_id, steps.c.state == StepState.SUCCEEDED)
    jobs_of_steps = [row.job_id for row in connection.execute(done)]
    others = list(dict.fromkeys(job for job in jobs_of_steps if job not in (None, job_id)))
    if not others:
        return ""
    count = sum(job in others for job in jobs_of_steps)
    how_many = "all its steps were" if count == len(jobs_of_steps) else f"{count} of {len(jobs_of_steps)} steps were"
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"; {how_many} taken over from job {others[0]}{more}"
