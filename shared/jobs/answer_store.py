"""Responses to requests with an Idempotency-Key, kept for a day. A key belongs to its project."""

import json
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Engine, delete, select, update

from shared.db.engine import insert_once, writing
from shared.db.fetch import fetch_first
from shared.jobs.records import AnswerRecord
from shared.jobs.tables import answers

KEPT_S = 24 * 3600.0
LOST_S = 120.0  # a request without a response for this long was lost with its process and may be repeated


class AnswerClaim(NamedTuple):
    """The right to handle the request of a key. at: when it was claimed; a later claim of a lost request has another time."""

    project: str
    key: str
    at: float


class AnswerStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def begin(self, project: str, key: str, digest: str) -> AnswerClaim | AnswerRecord:
        """A claim if the request must be handled, else the record of the earlier one, whose status is None while it runs.

        digest: hash of the whole request.
        """
        now = time.time()
        same_key = (answers.c.project_id == project) & (answers.c.key == key)
        values = {"project_id": project, "key": key, "digest": digest, "created_at": now}
        with writing(self.engine) as connection:
            connection.execute(delete(answers).where(answers.c.created_at < now - KEPT_S))
            lost = answers.c.status.is_(None) & (answers.c.created_at < now - LOST_S)
            connection.execute(delete(answers).where(same_key, lost))
            while insert_once(connection, answers, values) is None:
                record = fetch_first(connection, AnswerRecord, select(answers).where(same_key))
                if record is not None:  # else it was dropped in between
                    return record
            return AnswerClaim(project, key, now)

    def renew(self, claim: AnswerClaim) -> AnswerClaim | None:
        """Still at work on it. None: the claim was lost."""
        now = time.time()
        renewed = update(answers).where(_of(claim), answers.c.status.is_(None)).values(created_at=now)
        with writing(self.engine) as connection:
            return claim._replace(at=now) if connection.execute(renewed).rowcount else None

    def keep(self, claim: AnswerClaim, status: int, headers: Mapping[str, str], body: bytes) -> None:
        with writing(self.engine) as connection:
            values = {"status": status, "headers": dict(headers), "body": body}
            connection.execute(update(answers).where(_of(claim)).values(**values))

    def drop(self, claim: AnswerClaim) -> None:
        """Free the key: the request changed nothing."""
        with writing(self.engine) as connection:
            connection.execute(delete(answers).where(_of(claim)))

    def forget(self, project: str, names: Collection[str]) -> int:
        """Remove responses that hold one of these names, ids of chats or of users; returns how many."""
        wanted = [json.dumps(name, ensure_ascii=False).encode() for name in names]
        mine = select(answers.c.key, answers.c.body).where(answers.c.project_id == project, answers.c.body.is_not(None))
        with writing(self.engine) as connection:
            kept = connection.execute(mine)
            keys = [key for key, body in kept if any(name in body for name in wanted)]
            for key in keys:
                same_key = (answers.c.project_id == project) & (answers.c.key == key)
                connection.execute(delete(answers).where(same_key))
        return len(keys)


def _of(claim: AnswerClaim) -> ColumnElement[bool]:
    same_key = (answers.c.project_id == claim.project) & (answers.c.key == claim.key)
    return same_key & (answers.c.created_at == claim.at)
