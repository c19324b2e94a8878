"""Webhook deliveries, written in the transaction of the event that they report."""

import hashlib
import json
import time
from collections.abc import Sequence

import uuid_utils
from sqlalchemy import Connection, and_, insert, or_, select

from shared.contracts.jobs import JobKind
from shared.contracts.json_types import Json
from shared.contracts.webhooks import JobWebhook, WebhookEvent, events_of
from shared.db.fetch import fetch_one
from shared.jobs.records import JobRecord, WebhookRecord
from shared.jobs.tables import deliveries, webhooks

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
TRIED_FOR_S = 24 * 3600.0


def announce(connection: Connection, job: JobRecord, type: str, data: Json | None) -> None:
    """One delivery for each webhook event of this job event and each endpoint that subscribes to it. job: after the event."""
    events = events_of(type, data, job.error.code if job.error else None)
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


def _delivery(webhook_id: str, job: JobRecord, event: WebhookEvent, body: str, now: float) -> Json:
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


def payload(event: WebhookEvent, job: JobRecord, data: Json, at: int) -> str:
    """The body as it is signed: OpenAI's event with more fields in `data`."""
    about = {"id": job.id, "status": job.status, "metadata": job.request.get("metadata", {})} | data
    if event is not WebhookEvent.ROUND:
        error = job.error.model_dump() if job.error else None
        more = {"status_reason": job.status_reason, "fine_tuned_model": job.fine_tuned_model, "error": error}
        about |= {name: value for name, value in more.items() if value is not None}
    body = {
        "id": f"evt-{uuid_utils.uuid7().hex}",
        "object": "event",
        "created_at": at,
        "type": event.value,
        "data": about,
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
) -> WebhookRecord:
    """seed: the signing secret is derived from it and a key outside the database."""
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
    return fetch_one(connection, WebhookRecord, insert(webhooks).values(**values).returning(webhooks))


def insert_job_webhook(connection: Connection, job: JobRecord, wanted: JobWebhook) -> None:
    seed = job_seed(job.project_id, wanted.url)
    insert_webhook(connection, job.project_id, f"of {job.id}", wanted.url, wanted.event_types, seed, job.id)


def job_seed(project_id: str, url: str) -> str:
    """Jobs of a project with the same address share a secret, so a fork's receiver knows it already."""
    return hashlib.sha256(f"{project_id}\n{url}".encode()).hexdigest()
