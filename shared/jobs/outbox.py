"""Webhook deliveries, written in the transaction of the event that they report."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence

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
    now = int(time.time())
    bodies = {event: payload(event, job, data or {}, now) for event in events}
    deliver(connection, job.project_id, job.id, bodies)


def announce_other(connection: Connection, project_id: str, event: WebhookEvent, data: Json) -> None:
    """One delivery of what belongs to no job for each endpoint of the project that subscribes to it. data: with an id."""
    deliver(connection, project_id, None, {event: _body(event, data, int(time.time()))})


def deliver(connection: Connection, project_id: str, job_id: str | None, bodies: Mapping[WebhookEvent, str]) -> None:
    """job_id: the endpoints of this job alone get it too."""
    of_job = (
        webhooks.c.job_id.is_(None) if job_id is None else or_(webhooks.c.job_id.is_(None), webhooks.c.job_id == job_id)
    )
    mine = and_(webhooks.c.project_id == project_id, of_job, webhooks.c.disabled_at.is_(None))
    # the lock: a webhook that is removed now would break the transaction whose event this is
    query = select(webhooks.c.id, webhooks.c.event_types).where(mine).order_by(webhooks.c.id)
    endpoints = connection.execute(query.with_for_update(read=True, key_share=True)).all()
    now = time.time()
    rows = [
        _delivery(endpoint.id, project_id, job_id, event, body, now)
        for event, body in bodies.items()
        for endpoint in endpoints
        if event in endpoint.event_types
    ]
    if rows:
        connection.execute(insert(deliveries), rows)


def _delivery(webhook_id: str, project_id: str, job_id: str | None, event: WebhookEvent, body: str, now: float) -> Json:
    return {
        "id": f"msg-{uuid_utils.uuid7().hex}",
        "project_id": project_id,
        "webhook_id": webhook_id,
        "job_id": job_id,
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
    return _body(event, about, at)


def _body(event: WebhookEvent, data: Json, at: int) -> str:
    body = {
        "id": f"evt-{uuid_utils.uuid7().hex}",
        "object": "event",
        "created_at": at,
        "type": event.value,
        "data": data,
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
