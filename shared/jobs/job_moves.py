"""What the moves of a job are made of: statements inside the transaction of whoever makes the move."""

import time
from collections.abc import Mapping
from typing import Any

import uuid_utils
from sqlalchemy import Connection, Exists, Row, insert, select, update

from shared.contracts.estimate import Price
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import AnyRequest, ForkedFrom, JobKind, JobRequest, JobStatus
from shared.jobs.states import ACTIVE_JOBS, FINAL_JOBS
from shared.jobs.tables import events, jobs

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


def insert_job(
    connection: Connection, project_id: str, request: AnyRequest, prices: Prices, forked_from: ForkedFrom | None = None
) -> Row:
    values = {
        "id": f"{PREFIX[request.kind]}-{uuid_utils.uuid7().hex}",
        "project_id": project_id,
        "kind": request.kind,
        "request": request.model_dump(mode="json"),
        "forked_from": forked_from.model_dump(mode="json") if forked_from else None,
        "file_id": request.training_file if isinstance(request, JobRequest) else None,
        "status": JobStatus.QUEUED,
        "progress": {},
        "prices": prices,
        "attempt": 0,
        "created_at": time.time(),
    }
    row = connection.execute(insert(jobs).values(**values).returning(jobs)).one()
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
