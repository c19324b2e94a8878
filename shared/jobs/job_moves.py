"""What the moves of a job are made of: statements inside the transaction of whoever makes the move."""

import time
from collections.abc import Mapping
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Exists, Row, and_, func, insert, or_, select, update

from shared.contracts.estimate import Price
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import AnyRequest, ForkedFrom, JobKind, JobRequest, JobStatus
from shared.jobs.outbox import announce, insert_job_webhook
from shared.jobs.states import ACTIVE_JOBS, FINAL_JOBS
from shared.jobs.tables import events, jobs, projects

Prices = Mapping[str, Price] | None
PREFIX = {JobKind.DISTILLATION: "ftjob", JobKind.IMPORT: "import", JobKind.EXPORT: "export"}


def sibling_runs() -> Exists:
    """Whether another job of the same experiment is at work: they run one after the other, so that what they have in
    common is done once."""
    other = jobs.alias()
    experiment = other.c.request["metadata"][EXPERIMENT].as_string()
    return (
        select(other.c.id)
        .where(other.c.status.in_(ACTIVE_JOBS), experiment == jobs.c.request["metadata"][EXPERIMENT].as_string())
        .exists()
    )


def project_has_room() -> ColumnElement[bool]:
    """Whether the job's project may have one more at work."""
    other = jobs.alias()
    at_work = select(func.count()).where(other.c.project_id == jobs.c.project_id, other.c.status.in_(ACTIVE_JOBS))
    limit = select(projects.c.concurrent_jobs).where(projects.c.id == jobs.c.project_id).scalar_subquery()
    return or_(limit.is_(None), at_work.scalar_subquery() < limit)


def may_begin() -> ColumnElement[bool]:
    """Queued, and neither its experiment nor its project has to wait for a job that is at work."""
    return and_(jobs.c.status == JobStatus.QUEUED, ~sibling_runs(), project_has_room())


def still_has_room(connection: Connection, job: Row) -> bool:
    """Two orchestrators that take jobs of one project at once: the second one waits here, and then sees the first one's."""
    mine = select(projects.c.concurrent_jobs).where(projects.c.id == job.project_id)
    if connection.execute(mine).scalar_one() is None:
        return True
    connection.execute(mine.with_for_update(key_share=True))
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job.id, project_has_room())).first() is not None


def insert_job(
    connection: Connection,
    project_id: str,
    request: AnyRequest,
    prices: Prices,
    forked_from: ForkedFrom | None = None,
    key_id: str | None = None,
) -> Row:
    values = {
        "id": f"{PREFIX[request.kind]}-{uuid_utils.uuid7().hex}",
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
    }
    row = connection.execute(insert(jobs).values(**values).returning(jobs)).one()
    if isinstance(request, JobRequest) and request.webhook is not None:
        insert_job_webhook(connection, row, request.webhook)
    how = f"forked from {forked_from.job_id}" if forked_from else "created"
    say(connection, row, "info", "status", f"job {how} and queued", {"status": JobStatus.QUEUED})
    return row


def move_to(connection: Connection, row: Row, status: JobStatus, message: str | None = None, **values: Any) -> Row:
    """Change the status of a job whose row this transaction has locked, and say so."""
    changed = connection.execute(
        update(jobs).where(jobs.c.id == row.id).values(status=status, **values).returning(jobs)
    ).one()
    reason = f": {changed.status_reason}" if status == JobStatus.PAUSED else ""
    say(connection, row, "info", "status", message or f"job {status.value}{reason}", {"status": status})
    return changed


def why_not(status: str) -> str:
    return "job_finished" if status in FINAL_JOBS else f"job_{status}"


def say(connection, row: Row, level: str, type: str, message: str, data: dict | None) -> None:
    """One event, and what webhooks are told of it. row: of the job, as it is now."""
    connection.execute(
        insert(events).values(
            project_id=row.project_id,
            job_id=row.id,
            level=level,
            type=type,
            message=message,
            data=data,
            created_at=time.time(),
        )
    )
    announce(connection, row, type, data)
