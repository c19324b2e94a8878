"""Webhooks and their deliveries: created, changed, listed."""

import json
from urllib.parse import urlsplit

from services.api.context import ApiContext, ProjectContext
from services.api.features.webhooks.signing import hint_of, secret_of
from services.api.paging import Paging, listed
from shared.contracts.errors import UserError
from shared.contracts.views import Listed
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
from shared.platform.public_addresses import literal, may_connect


def refuse_address(context: ApiContext, url: str, param: str = "url") -> None:
    """Raises UserError for a URL whose host is a literal address that is not allowed. Names are checked at each delivery."""
    address = literal(urlsplit(url).hostname or "")
    if address is not None and not may_connect(address, context.settings.webhook_networks):
        message = f"{param}: {address} is not a public address, and METEOR_API_WEBHOOK_ALLOW does not name it"
        raise UserError(message, param=param, code="address_not_allowed")


def create(context: ProjectContext, request: WebhookRequest) -> NewWebhook:
    """Only this answer shows the secret. Raises UserError, Conflict."""
    refuse_address(context, request.url)
    webhook = context.stores.webhooks.add(context.project, request.name, request.url, request.event_types)
    return _with_secret(context, webhook)


def get(context: ProjectContext, webhook_id: str) -> WebhookObject:
    return _as_object(context, context.stores.webhooks.get(context.project, webhook_id))


def page(context: ProjectContext, paging: Paging) -> Listed[WebhookObject]:
    rows, more = context.stores.webhooks.page(context.project, *paging)
    return listed([_as_object(context, row) for row in rows], more)


def change(context: ProjectContext, webhook_id: str, change: WebhookChange) -> WebhookObject:
    """Raises NotFound, UserError."""
    values = {name: value for name, value in change.model_dump().items() if value is not None}
    if change.url is not None:
        refuse_address(context, change.url)
    return _as_object(context, context.stores.webhooks.change(context.project, webhook_id, values))


def rotate(context: ProjectContext, webhook_id: str, keep_old: bool) -> NewWebhook:
    return _with_secret(context, context.stores.webhooks.rotate(context.project, webhook_id, keep_old))


def deliveries(context: ProjectContext, webhook_id: str, paging: Paging, state: str | None) -> Listed[DeliveryObject]:
    rows, more = context.stores.webhooks.deliveries(context.project, webhook_id, *paging, state)
    return listed([_delivery_as_object(row) for row in rows], more)


def replay(context: ProjectContext, webhook_id: str, delivery_id: str) -> DeliveryObject:
    """Raises NotFound, Conflict."""
    return _delivery_as_object(context.stores.webhooks.replay(context.project, webhook_id, delivery_id))


def job_secret(context: ProjectContext, url: str) -> str:
    """The secret that signs messages about the project's jobs whose own webhook is this URL."""
    return secret_of(context.webhook_key, job_seed(context.project, url))


def _with_secret(context: ApiContext, webhook: WebhookRecord) -> NewWebhook:
    secret = secret_of(context.webhook_key, webhook.seed)
    return NewWebhook(**_as_object(context, webhook).model_dump(), signing_secret=secret)


def _as_object(context: ApiContext, webhook: WebhookRecord) -> WebhookObject:
    return WebhookObject(
        id=webhook.id,
        name=webhook.name,
        url=webhook.url,
        event_types=list(webhook.event_types),
        created_at=int(webhook.created_at),
        updated_at=int(webhook.updated_at),
        signing_secret_hint=hint_of(secret_of(context.webhook_key, webhook.seed)),
        job_id=webhook.job_id,
        disabled=webhook.disabled_at is not None,
        disabled_reason=webhook.disabled_reason,
    )


def _delivery_as_object(delivery: DeliveryRecord) -> DeliveryObject:
    return DeliveryObject(
        id=delivery.id,
        webhook_id=delivery.webhook_id,
        job_id=delivery.job_id,
        event_type=delivery.type,
        state=delivery.state,
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        created_at=int(delivery.created_at),
        finished_at=None if delivery.finished_at is None else int(delivery.finished_at),
        next_attempt_at=int(delivery.next_at) if delivery.state == PENDING else None,
        log=[DeliveryAttempt.model_validate(entry) for entry in delivery.log],
        payload=json.loads(delivery.payload),
    )
