"""/v1/webhooks: the endpoints that are notified about a project's jobs; also at /v1/webhook_endpoints, OpenAI's name."""

from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Id, Page, needs
from services.api.features.webhooks import service as webhooks
from services.api.features.webhooks.deliveries import send_test
from services.api.middleware.idempotency import is_stored, once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.views import Deleted, Listed
from shared.contracts.webhooks import (
    DeliveryObject,
    NewWebhook,
    WebhookChange,
    WebhookObject,
    WebhookRequest,
    WebhookRotation,
    WebhookTest,
    WebhookTestResult,
)
from shared.platform.safe_post import Poster

OURS, OPENAIS = "/v1/webhooks", "/v1/webhook_endpoints"
DeliveryState = Literal["pending", "delivered", "failed"]


async def poster(request: Request) -> Poster:
    return request.app.state.poster


async def delivery_state(state: Annotated[DeliveryState | None, Query()] = None) -> DeliveryState | None:
    return state


router = Router(tags=["webhooks"], dependencies=[needs(Scope.ADMIN)])


@router.post(OURS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS, dependencies=[once], include_in_schema=False)
def create_webhook(request: Request, context: Context, body: WebhookRequest) -> NewWebhook:
    """Create a webhook. Only this answer has the secret; with an Idempotency-Key it has none, because such answers are stored."""
    webhook = webhooks.create(context, body)
    if is_stored(request):
        webhook.signing_secret = None
    return webhook


@router.get(OURS)
@router.get(OPENAIS, include_in_schema=False)
def list_webhooks(context: Context, paging: Page) -> Listed[WebhookObject]:
    return webhooks.page(context, paging)


@router.get(OURS + "/{webhook_id}")
@router.get(OPENAIS + "/{webhook_id}", include_in_schema=False)
def get_webhook(context: Context, webhook_id: Id) -> WebhookObject:
    return webhooks.get(context, webhook_id)


@router.patch(OURS + "/{webhook_id}", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{webhook_id}", dependencies=[once], include_in_schema=False)
def change_webhook(context: Context, webhook_id: Id, body: WebhookChange) -> WebhookObject:
    """Change name, address and event types, or disable the webhook."""
    return webhooks.change(context, webhook_id, body)


@router.delete(OURS + "/{webhook_id}")
@router.delete(OPENAIS + "/{webhook_id}", include_in_schema=False)
def delete_webhook(context: Context, webhook_id: Id) -> Deleted:
    """The webhook and its deliveries."""
    context.stores.webhooks.remove(context.project, webhook_id)
    return Deleted(id=webhook_id, object="webhook_endpoint.deleted")


@router.post(OURS + "/{webhook_id}/rotate_secret")
@router.post(OPENAIS + "/{webhook_id}/rotate_secret", include_in_schema=False)
def rotate_webhook_secret(context: Context, webhook_id: Id, body: WebhookRotation | None = None) -> NewWebhook:
    """Replace the secret. For 24 hours messages can be signed with both."""
    return webhooks.rotate(context, webhook_id, body is not None and body.keep_old_secret_active_for_24_hours)


@router.post(OURS + "/{webhook_id}/test", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{webhook_id}/test", dependencies=[once], include_in_schema=False)
async def try_webhook(
    context: Context,
    poster: Annotated[Poster, Depends(poster)],
    webhook_id: Id,
    body: WebhookTest | None = None,
) -> WebhookTestResult:
    """Send one message about a job that does not exist (`data.test` is true), at once and without retries."""
    webhook = await run_in_threadpool(context.stores.webhooks.get, context.project, webhook_id)
    return await send_test(poster, context.webhook_key, webhook, (body or WebhookTest()).event_type)


@router.get(OURS + "/{webhook_id}/deliveries")
def list_webhook_deliveries(
    context: Context,
    webhook_id: Id,
    paging: Page,
    state: Annotated[DeliveryState | None, Depends(delivery_state)],
) -> Listed[DeliveryObject]:
    return webhooks.deliveries(context, webhook_id, paging, state)


@router.post(
    OURS + "/{webhook_id}/deliveries/{delivery_id}/replay", dependencies=[once], responses=may_answer(409, 422)
)
def replay_webhook_delivery(context: Context, webhook_id: Id, delivery_id: Id) -> DeliveryObject:
    """Send the delivery again, with the same `webhook-id`, and retry for another 24 hours."""
    return webhooks.replay(context, webhook_id, delivery_id)
