"""What people say of stored chats: one row per chat and author, replaced by what the author says next."""

import time
from math import inf
from typing import NamedTuple

import uuid_utils
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from shared.contracts.errors import NotFound
from shared.contracts.feedback import FeedbackRequest
from shared.db.engine import insert_once, reading, writing
from shared.db.fetch import fetch_first, fetch_one
from shared.db.paging import keyset_page
from shared.jobs.chat_store import no_chat
from shared.jobs.records import ChatRecord, FeedbackRecord
from shared.jobs.tables import chats, feedback


class Ratings(NamedTuple):
    """Thumbs that a version got."""

    up: int
    down: int


class RatedChats(NamedTuple):
    """Chats that a version answered from since on and before until (Unix seconds). per_user: of each user the first one alone, who is named
    by user_key in the chat's metadata, by `user` or by `safety_identifier`."""

    alias: str
    version: int
    since: float = 0.0
    until: float = inf
    per_user: bool = False
    user_key: str | None = None


class FeedbackStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def put(self, chat: ChatRecord, request: FeedbackRequest) -> FeedbackRecord:
        """Replaces what the author said of the chat before. Raises NotFound for a chat that has gone since."""
        said = request.model_dump(include={"rating", "score", "correction", "comment"})
        now, author = time.time(), request.author or ""
        values = said | {
            "id": f"feedback-{uuid_utils.uuid7().hex}",
            "project_id": chat.project_id,
            "completion_id": chat.id,
            "author": author,
            "alias": chat.alias,
            "version": chat.version,
            "created_at": now,
            "updated_at": now,
        }
        same = (feedback.c.completion_id == chat.id) & (feedback.c.author == author)
        try:
            with writing(self.engine) as connection:
                changed = update(feedback).where(same, feedback.c.project_id == chat.project_id)
                changed = changed.values(**said, updated_at=now).returning(feedback)
                while insert_once(connection, feedback, values) is None:
                    record = fetch_first(connection, FeedbackRecord, changed)
                    if record is not None:  # else it was deleted in between
                        return record
                return fetch_one(connection, FeedbackRecord, select(feedback).where(same))
        except IntegrityError as error:  # the chat was removed in between
            raise no_chat(chat.id) from error

    def get(self, project_id: str, feedback_id: str) -> FeedbackRecord:
        """Raises NotFound."""
        mine = (feedback.c.id == feedback_id) & (feedback.c.project_id == project_id)
        with reading(self.engine) as connection:
            row = fetch_first(connection, FeedbackRecord, select(feedback).where(mine))
        if row is None:
            raise _no_feedback(feedback_id)
        return row

    def page(
        self,
        project_id: str,
        after: str | None,
        limit: int,
        completion_id: str | None = None,
        rating: str | None = None,
        model: str | None = None,
    ) -> tuple[list[FeedbackRecord], bool]:
        """Newest first. model: an alias or a base, or alias@version. Raises UserError for an unknown `after`."""
        mine = select(feedback).where(feedback.c.project_id == project_id)
        query = mine
        if completion_id is not None:
            query = query.where(feedback.c.completion_id == completion_id)
        if rating is not None:
            query = query.where(feedback.c.rating == rating)
        if model is not None:
            alias, at, version = model.partition("@")
            query = query.where(feedback.c.alias == alias)
            if at:
                number = int(version) if version.isdecimal() and len(version) < 10 else -1
                query = query.where(feedback.c.version == number)
        return keyset_page(self.engine, FeedbackRecord, query, feedback.c.id, after, limit, "feedback", cursors=mine)

    def delete(self, project_id: str, feedback_id: str) -> None:
        """Raises NotFound."""
        mine = (feedback.c.id == feedback_id) & (feedback.c.project_id == project_id)
        with writing(self.engine) as connection:
            if connection.execute(delete(feedback).where(mine)).rowcount == 0:
                raise _no_feedback(feedback_id)

    def ratings(self, project_id: str, of: RatedChats) -> Ratings:
        """Thumbs: of each chat the newest author's counts alone."""
        newest = func.row_number().over(partition_by=feedback.c.completion_id, order_by=feedback.c.updated_at.desc())
        names = [chats.c.user, chats.c.safety_identifier] if of.per_user else [chats.c.id]
        if of.per_user and of.user_key is not None:
            names.insert(0, chats.c.metadata[of.user_key].as_string())
        who = func.coalesce(*names, chats.c.id).label("who")
        mine = (feedback.c.project_id == project_id, feedback.c.alias == of.alias, feedback.c.version == of.version)
        span = [chats.c.created_at >= of.since] + [chats.c.created_at < of.until] * (of.until < inf)
        by_chat = (
            select(feedback.c.rating, newest.label("place"), chats.c.id, who)
            .join(chats, chats.c.id == feedback.c.completion_id)
            .where(*mine, feedback.c.rating.is_not(None), *span)
            .subquery()
        )
        first = func.row_number().over(partition_by=by_chat.c.who, order_by=by_chat.c.id).label("place")
        by_user = select(by_chat.c.rating, first).where(by_chat.c.place == 1).subquery()
        query = select(by_user.c.rating, func.count()).where(by_user.c.place == 1).group_by(by_user.c.rating)
        with reading(self.engine) as connection:
            counts = dict(connection.execute(query).all())
        return Ratings(counts.get("up", 0), counts.get("down", 0))


def _no_feedback(feedback_id: str) -> NotFound:
    return NotFound(f"no feedback {feedback_id!r}", param="feedback_id", code="feedback_not_found")
