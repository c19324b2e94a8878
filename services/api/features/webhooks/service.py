"""Webhooks: made, changed, listed; and what they were told."""

import json
from typing import Any
from urllib.parse import urlsplit

from services.api.context import ApiContext
from services.api.features.webhooks.signing import hint_of, secret_of
from services.api.public_addresses import literal, may_connect
from shared.contracts.errors import UserError
from shared.contracts.webhooks import (
    DeliveryAttempt,
    DeliveryObject,
    NewWebhook,
    WebhookChange,
    WebhookObject,
    WebhookRequest,
)
from shared.jobs.outbox import PENDING, job_seed
from shared.jobs.records import DeliveryRecord, WebhookRecord


def refuse_address(context: ApiContext, url: str, param: str = "url") -> None:
    """Where the URL names an address itself, whether it is allowed is known now. Raises UserError."""
    address = literal(urlsplit(url).hostname or "")
    if address is not None and not may_connect(address, context.settings.webhook_networks):
        message = f"{param}: {address} is not a public address, and METEOR_API_WEBHOOK_ALLOW does not name it"
        raise UserError(message, param=param, code="address_not_allowed")


def create(context: ApiContext, project: str, request: WebhookRequest) -> NewWebhook:
    """The secret stands in this answer only. Raises UserError, Conflict."""
    refuse_address(context, request.url)
    return _with_secret(context, context.stores.webhooks.add(project, request.name, request.url, request.event_types))


def get(context: ApiContext, project: str, webhook_id: str) -> WebhookObject:
    return as_object(context, context.stores.webhooks.get(project, webhook_id))


def page(context: ApiContext, project: str, after: str | None, limit: int) -> tuple[list[WebhookObject], bool]:
    rows, more = context.stores.webhooks.page(project, after, limit)
    return [as_object(context, row) for row in rows], more


def change(context: ApiContext, project: str, webhook_id: str, wanted: WebhookChange) -> WebhookObject:
    """Raises NotFound, UserError."""
    values = {name: value for name, value in wanted.model_dump().items() if value is not None}
    if wanted.url is not None:
        refuse_address(context, wanted.url)
    return as_object(context, context.stores.webhooks.change(project, webhook_id, values))


def rotate(context: ApiContext, project: str, webhook_id: str, keep_old: bool) -> NewWebhook:
    return _with_secret(context, context.stores.webhooks.rotate(project, webhook_id, keep_old))


def remove(context: ApiContext, project: str, webhook_id: str) -> None:
    context.stores.webhooks.remove(project, webhook_id)


def deliveries(
    context: ApiContext, project: str, webhook_id: str, after: str | None, limit: int, state: str | None
) -> tuple[list[DeliveryObject], bool]:
    rows, more = context.stores.webhooks.deliveries(project, webhook_id, after, limit, state)
    return [as_delivery(row) for row in rows], more


def replay(context: ApiContext, project: str, webhook_id: str, delivery_id: str) -> DeliveryObject:
    """Raises NotFound, Conflict."""
    return as_delivery(context.stores.webhooks.replay(project, webhook_id, delivery_id))


def job_secret(context: ApiContext, project: str, url: str) -> str:
    """What messages about jobs of a project are signed with that have this address as their own webhook."""
    return secret_of(context.webhook_key, job_seed(project, url))


def _with_secret(context: ApiContext, row: WebhookRecord) -> NewWebhook:
    secret = secret_of(context.webhook_key, row.seed)
    return NewWebhook(**as_object(context, row).model_dump(), signing_secret=secret)


def as_object(context: ApiContext, row: WebhookRecord) -> WebhookObject:
    return WebhookObject(
        id=row.id,
        name=row.name,
        url=row.url,
        event_types=list(row.event_types),
        created_at=int(row.created_at),
        updated_at=int(row.updated_at),
        signing_secret_hint=hint_of(secret_of(context.webhook_key, row.seed)),
        job_id=row.job_id,
        disabled=row.disabled_at is not None,
        disabled_reason=row.disabled_reason,
    )


def as_delivery(row: DeliveryRecord) -> DeliveryObject:
    payload: dict[str, Any] = json.loads(row.payload)
    return DeliveryObject(
        id=row.id,
        webhook_id=row.webhook_id,
        job_id=row.job_id,
        event_type=row.type,
        state=row.state,
        attempts=row.attempts,
        last_status=row.last_status,
        created_at=int(row.created_at),
        finished_at=None if row.finished_at is None else int(row.finished_at),
        next_attempt_at=int(row.next_at) if row.state == PENDING else None,
        log=[DeliveryAttempt.model_validate(entry) for entry in row.log],
        payload=payload,
    )
