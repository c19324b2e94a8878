"""Stored chats under OpenAI's routes: GET /v1/chat/completions and below.

A key that may chat may not read what others have asked: reading takes the scope `files`.
"""

from typing import Annotated, Literal

from fastapi import Depends, Query

from services.api.deps import Context, Id, Page, needs
from services.api.features.chat.recorder import settled
from services.api.features.completions import service as completions
from services.api.metadata_query import metadata_pairs
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.completions import CompletionChange, CompletionDeleted, StoredCompletion, StoredMessage
from shared.contracts.distillation import NO_NUL
from shared.contracts.keys import Scope
from shared.contracts.views import Listed
from shared.jobs.chat_store import ChatFilter

CHATS = "/v1/chat/completions"
ONE = CHATS + "/{completion_id}"
Order = Annotated[Literal["asc", "desc"], Query(description="by time; asc: oldest first")]

router = Router(tags=["stored_chats"], dependencies=[needs(Scope.FILES), Depends(settled)])


@router.get(CHATS)
def list_chat_completions(
    context: Context,
    paging: Page,
    metadata: Annotated[dict[str, str] | None, Depends(metadata_pairs)],
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    order: Order = "asc",
) -> Listed[StoredCompletion]:
    """Chats that were stored, with `store: true` or by a capture. model: an alias or a base, or alias@version."""
    return completions.page(context, paging, ChatFilter(model, metadata), order)


@router.get(ONE)
def get_chat_completion(context: Context, completion_id: Id) -> StoredCompletion:
    return completions.get(context, completion_id)


@router.get(ONE + "/messages")
def list_chat_completion_messages(
    context: Context, completion_id: Id, paging: Page, order: Order = "asc"
) -> Listed[StoredMessage]:
    """The messages of the request. The answer is in the chat's `choices`."""
    return completions.messages(context, completion_id, paging, order)


@router.post(ONE, dependencies=[once], responses=may_answer(409, 422))
def update_chat_completion(context: Context, completion_id: Id, body: CompletionChange) -> StoredCompletion:
    """Its metadata, which is all that may be changed."""
    return completions.set_metadata(context, completion_id, body.metadata or {})


@router.delete(ONE)
def delete_chat_completion(context: Context, completion_id: Id) -> CompletionDeleted:
    """With its feedback. Rows of datasets that were made of it stay: `POST /v1/forget` names them."""
    context.stores.chats.delete(context.project, completion_id)
    return CompletionDeleted(id=completion_id)
