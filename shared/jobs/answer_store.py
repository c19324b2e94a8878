"""Answers to requests that may be sent twice, by Idempotency-Key. The key belongs to a project; what is kept is kept for a day."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Engine, delete, update

from shared.db.engine import insert_once, writing
from shared.jobs.records import AnswerRecord
from shared.jobs.tables import answers

KEPT_S = 24 * 3600.0
LOST_S = 120.0  # a request that has no answer for so long went down with its process, and may be done again


class Claim(NamedTuple):
    """The right to do the request of a key. at: tells it from that of whoever takes it over once it counts as lost."""

    project: str
    key: str
    at: float


class AnswerStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def begin(self, project: str, key: str, digest: str) -> Claim | AnswerRecord:
        """digest: of the whole request. A claim where the request is to be done, else what is known of the one before:
        its digest, and its status, None while it is on its way."""
        now = time.time()
        mine = (answers.c.project_id == project) & (answers.c.key == key)
        values = {"project_id": project, "key": key, "digest": digest, "created_at": now}
        with writing(self.engine) as connection:
            connection.execute(delete(answers).where(answers.c.created_at < now - KEPT_S))
            lost = answers.c.status.is_(None) & (answers.c.created_at < now - LOST_S)
            connection.execute(delete(answers).where(mine, lost))
            if insert_once(connection, answers, values) is not None:
                return Claim(project, key, now)
            return connection.execute(answers.select().where(mine)).one()

    def keep(self, claim: Claim, status: int, headers: Mapping[str, str], body: bytes) -> None:
        with writing(self.engine) as connection:
            values = {"status": status, "headers": dict(headers), "body": body}
            connection.execute(update(answers).where(*_held(claim)).values(**values))

    def drop(self, claim: Claim) -> None:
        """Nothing was done: the key is free again."""
        with writing(self.engine) as connection:
            connection.execute(delete(answers).where(*_held(claim)))


def _held(claim: Claim):
    return (answers.c.project_id == claim.project, answers.c.key == claim.key, answers.c.created_at == claim.at)
