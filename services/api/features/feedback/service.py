"""Feedback on stored chats. Of a masked chat it is masked, too."""

from collections import Counter

from services.api.context import ProjectContext
from services.api.paging import Paging, listed
from shared.contracts.feedback import FeedbackObject, FeedbackRequest
from shared.contracts.views import Listed
from shared.importing.personal_data import masked, masked_name
from shared.jobs.records import FeedbackRecord


def put(context: ProjectContext, request: FeedbackRequest) -> FeedbackObject:
    """Raises NotFound for a chat that is not stored."""
    chat = context.stores.chats.get(context.project, request.completion_id)
    if chat.masked is not None:
        request = _masked(request)
    return as_object(context.stores.feedback.put(chat, request))


def _masked(request: FeedbackRequest) -> FeedbackRequest:
    counts = Counter[str]()
    texts = {name: text and masked(text, counts) for name, text in request if name in ("correction", "comment")}
    author = request.author and masked_name(request.author, counts)
    return request.model_copy(update=texts | {"author": author})


def page(
    context: ProjectContext, paging: Paging, completion_id: str | None, rating: str | None, model: str | None
) -> Listed[FeedbackObject]:
    rows, more = context.stores.feedback.page(context.project, *paging, completion_id, rating, model)
    return listed([as_object(row) for row in rows], more)


def as_object(row: FeedbackRecord) -> FeedbackObject:
    return FeedbackObject(
        id=row.id,
        completion_id=row.completion_id,
        version=row.served,
        rating=row.rating,
        score=row.score,
        correction=row.correction,
        comment=row.comment,
        author=row.author or None,
        created_at=int(row.created_at),
        updated_at=int(row.updated_at),
    )
