"""/v1/feedback. The scope `chat` may write what an application's users think; reading it takes the scope `files`."""

from typing import Annotated

from fastapi import Depends, Query, Response

from services.api.deps import Context, Id, Page, needs
from services.api.features.chat.recorder import settled
from services.api.features.feedback import service as feedback
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.distillation import NO_NUL
from shared.contracts.feedback import FeedbackObject, FeedbackRequest, Rating
from shared.contracts.keys import Scope
from shared.contracts.views import Deleted, Listed

ROUTE = "/v1/feedback"

router = Router(tags=["stored_chats"])
WRITES, READS = needs(Scope.CHAT, Scope.FILES), needs(Scope.FILES)


@router.post(ROUTE, status_code=201, dependencies=[WRITES, Depends(settled), once], responses=may_answer(404, 409, 422))
def create_feedback(context: Context, body: FeedbackRequest, response: Response) -> FeedbackObject:
    """Judge a stored chat. What the same author said of it before is replaced."""
    made = feedback.put(context, body)
    response.headers["location"] = f"{ROUTE}/{made.id}"
    return made


@router.get(ROUTE, dependencies=[READS])
def list_feedback(
    context: Context,
    paging: Page,
    completion_id: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    rating: Annotated[Rating | None, Query()] = None,
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
) -> Listed[FeedbackObject]:
    """model: an alias or a base, or alias@version."""
    return feedback.page(context, paging, completion_id, rating, model)


@router.get(ROUTE + "/{feedback_id}", dependencies=[READS])
def get_feedback(context: Context, feedback_id: Id) -> FeedbackObject:
    return feedback.as_object(context.stores.feedback.get(context.project, feedback_id))


@router.delete(ROUTE + "/{feedback_id}", dependencies=[WRITES])
def delete_feedback(context: Context, feedback_id: Id) -> Deleted:
    context.stores.feedback.delete(context.project, feedback_id)
    return Deleted(id=feedback_id, object="feedback")
