"""What webhooks are to be told, written in the transaction of what has happened: one is never kept without the other."""

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import uuid_utils
from sqlalchemy import Connection, Row, and_, insert, or_, select

from shared.contracts.jobs import JobKind
from shared.contracts.webhooks import JobWebhook, WebhookEvent, events_of
from shared.jobs.tables import deliveries, webhooks

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
TRIED_FOR_S = 24 * 3600.0


def announce(connection: Connection, job: Row, type: str, data: dict[str, Any] | None) -> None:
    """A delivery of each event that this is, to each endpoint that wants to hear of it. job: its row as it is now."""
    events = events_of(type, data, job.error)
    if not events or job.kind != JobKind.DISTILLATION:
        return
    mine = and_(
        webhooks.c.project_id == job.project_id,
        or_(webhooks.c.job_id.is_(None), webhooks.c.job_id == job.id),
        webhooks.c.disabled_at.is_(None),
    )
    endpoints = connection.execute(select(webhooks.c.id, webhooks.c.event_types).where(mine)).all()
    now = time.time()
    rows = []
    for event in events:
        body = payload(event, job, data or {}, int(now))
        rows += [
            _delivery(endpoint.id, job, event, body, now) for endpoint in endpoints if event in endpoint.event_types
        ]
    if rows:
        connection.execute(insert(deliveries), rows)


def _delivery(webhook_id: str, job: Row, event: WebhookEvent, body: str, now: float) -> dict[str, Any]:
    return {
        "id": f"msg-{uuid_utils.uuid7().hex}",
        "project_id": job.project_id,
        "webhook_id": webhook_id,
        "job_id": job.id,
        "type": event.value,
        "payload": body,
        "state": PENDING,
        "attempts": 0,
        "next_at": now,
        "expires_at": now + TRIED_FOR_S,
        "log": [],
        "created_at": now,
    }


def payload(event: WebhookEvent, job: Row, data: dict[str, Any], at: int) -> str:
    """OpenAI's event with more in its `data`. It is signed as it stands here."""
    told = {"id": job.id, "status": job.status, "metadata": job.request.get("metadata", {})} | data
    for name in ("status_reason", "fine_tuned_model", "error"):
        if getattr(job, name) is not None and event is not WebhookEvent.ROUND:
            told[name] = getattr(job, name)
    body = {
        "id": f"evt-{uuid_utils.uuid7().hex}",
        "object": "event",
        "created_at": at,
        "type": event.value,
        "data": told,
    }
    return json.dumps(body)


def insert_webhook(
    connection: Connection,
    project_id: str,
    name: str,
    url: str,
    event_types: Sequence[WebhookEvent],
    seed: str,
    job_id: str | None = None,
) -> Row:
    """seed: what its secret is derived from; see services.api.features.webhooks.signing."""
    values = {
        "id": f"we-{uuid_utils.uuid7().hex}",
        "project_id": project_id,
        "job_id": job_id,
        "name": name,
        "url": url,
        "event_types": list(event_types),
        "seed": seed,
        "created_at": time.time(),
        "updated_at": time.time(),
    }
    return connection.execute(insert(webhooks).values(**values).returning(webhooks)).one()


def insert_job_webhook(connection: Connection, job: Row, wanted: JobWebhook) -> None:
    seed = job_seed(job.project_id, wanted.url)
    insert_webhook(connection, job.project_id, f"of {job.id}", wanted.url, wanted.event_types, seed, job.id)


def job_seed(project_id: str, url: str) -> str:
    """All jobs of a project that tell the same address sign with the same secret: a fork's receiver knows it already."""
    return hashlib.sha256(f"{project_id}\n{url}".encode()).hexdigest()
