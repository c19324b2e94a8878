"""/v1/webhooks: who is told of what happens to a project's jobs; under /v1/webhook_endpoints as OpenAI's client asks."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Project, needs
from services.api.features.webhooks import service as webhooks
from services.api.features.webhooks.deliveries import send_test
from services.api.features.webhooks.safe_post import Poster
from services.api.middleware.idempotency import is_kept, once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
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

OURS, OPENAIS = "/v1/webhooks", "/v1/webhook_endpoints"


async def poster(request: Request) -> Poster:
    return request.app.state.poster


router = APIRouter(tags=["webhooks"], dependencies=[needs(Scope.ADMIN)])


@router.post(OURS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS, dependencies=[once], include_in_schema=False)
def create_webhook(request: Request, context: Context, project: Project, body: WebhookRequest) -> NewWebhook:
    """A new webhook. Its secret stands in this answer and in no later one; not in one that is kept under an Idempotency-Key."""
    made = webhooks.create(context, project, body)
    if is_kept(request):
        made.signing_secret = None
    return made


@router.get(OURS, response_model=Listed[WebhookObject])
@router.get(OPENAIS, include_in_schema=False)
def list_webhooks(
    context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*webhooks.page(context, project, after, limit))


@router.get(OURS + "/{webhook_id}")
@router.get(OPENAIS + "/{webhook_id}", include_in_schema=False)
def get_webhook(context: Context, project: Project, webhook_id: Id) -> WebhookObject:
    return webhooks.get(context, project, webhook_id)


@router.patch(OURS + "/{webhook_id}", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{webhook_id}", dependencies=[once], include_in_schema=False)
def change_webhook(context: Context, project: Project, webhook_id: Id, body: WebhookChange) -> WebhookObject:
    """Name, address, event types, and whether it is told anything."""
    return webhooks.change(context, project, webhook_id, body)


@router.delete(OURS + "/{webhook_id}", response_model=Deleted)
@router.delete(OPENAIS + "/{webhook_id}", include_in_schema=False)
def delete_webhook(context: Context, project: Project, webhook_id: Id) -> dict[str, Any]:
    """The webhook and its deliveries."""
    webhooks.remove(context, project, webhook_id)
    return {"id": webhook_id, "object": "webhook_endpoint.deleted", "deleted": True}


@router.post(OURS + "/{webhook_id}/rotate_secret")
@router.post(OPENAIS + "/{webhook_id}/rotate_secret", include_in_schema=False)
def rotate_webhook_secret(
    context: Context, project: Project, webhook_id: Id, body: WebhookRotation | None = None
) -> NewWebhook:
    """Another secret. For 24 hours messages can be signed with both."""
    keep = body is not None and body.keep_old_secret_active_for_24_hours
    return webhooks.rotate(context, project, webhook_id, keep)


@router.post(OURS + "/{webhook_id}/test", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{webhook_id}/test", dependencies=[once], include_in_schema=False)
async def try_webhook(
    context: Context,
    project: Project,
    sender: Annotated[Poster, Depends(poster)],
    webhook_id: Id,
    body: WebhookTest | None = None,
) -> WebhookTestResult:
    """One message of a job that does not exist (`data.test` is true), now and once."""
    row = await run_in_threadpool(context.stores.webhooks.get, project, webhook_id)
    return await send_test(sender, context.webhook_key, row, (body or WebhookTest()).event_type)


@router.get(OURS + "/{webhook_id}/deliveries", response_model=Listed[DeliveryObject])
def list_webhook_deliveries(
    context: Context,
    project: Project,
    webhook_id: Id,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    state: Annotated[Literal["pending", "delivered", "failed"] | None, Query()] = None,
) -> dict[str, Any]:
    return listed(*webhooks.deliveries(context, project, webhook_id, after, limit, state))


@router.post(
    OURS + "/{webhook_id}/deliveries/{delivery_id}/replay", dependencies=[once], responses=may_answer(409, 422)
)
def replay_webhook_delivery(context: Context, project: Project, webhook_id: Id, delivery_id: Id) -> DeliveryObject:
    """Send it once more, under the same `webhook-id`, and try for another 24 hours."""
    return webhooks.replay(context, project, webhook_id, delivery_id)
