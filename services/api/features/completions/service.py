"""Stored chats as OpenAI's objects."""

from collections.abc import Mapping

from services.api.context import ProjectContext
from services.api.paging import Paging, listed, page_of
from shared.contracts.completions import StoredCompletion, StoredMessage
from shared.contracts.conversation import text_of
from shared.contracts.json_types import Json
from shared.contracts.views import Listed
from shared.jobs.chat_store import ChatFilter
from shared.jobs.records import ChatRecord

ASKED = (
    "tools", "tool_choice", "response_format", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed",
)  # fmt: skip
ANSWERED = ("choices", "usage", "system_fingerprint", "service_tier")


def page(context: ProjectContext, paging: Paging, filter: ChatFilter, order: str) -> Listed[StoredCompletion]:
    rows, more = context.stores.chats.page(context.project, *paging, filter, ascending=order == "asc")
    return listed([as_object(row) for row in rows], more)


def get(context: ProjectContext, completion_id: str) -> StoredCompletion:
    return as_object(context.stores.chats.get(context.project, completion_id))


def set_metadata(context: ProjectContext, completion_id: str, metadata: Mapping[str, str]) -> StoredCompletion:
    return as_object(context.stores.chats.set_metadata(context.project, completion_id, metadata))


def messages(context: ProjectContext, completion_id: str, paging: Paging, order: str) -> Listed[StoredMessage]:
    chat = context.stores.chats.get(context.project, completion_id)
    asked = [_message(chat.id, number, message) for number, message in enumerate(chat.request.get("messages", []))]
    return page_of(asked if order == "asc" else asked[::-1], paging, "message")


def _message(completion_id: str, number: int, message: Json) -> StoredMessage:
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    text = content if parts is None else text_of(parts)
    return StoredMessage.model_validate(
        message | {"id": f"{completion_id}-{number}", "content": text, "content_parts": parts}
    )


def as_object(chat: ChatRecord) -> StoredCompletion:
    told = {
        "id": chat.id,
        "created": int(chat.created_at),
        "model": chat.model,
        "version": chat.served,
        "request_id": chat.request_id,
        "metadata": chat.metadata,
        "input_user": chat.user,
        "masked": chat.masked,
        "agreement": chat.agreement,
    }
    told |= {name: chat.request.get(name) for name in ASKED} | {name: chat.answer.get(name) for name in ANSWERED}
    return StoredCompletion.model_validate(told)
