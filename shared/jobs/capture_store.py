"""The share of an alias's chats that is stored although their callers do not ask for it."""

import time

from sqlalchemy import ColumnElement, Engine, delete, select

from shared.db.engine import reading, upsert, writing
from shared.db.fetch import fetch_first, fetch_one
from shared.jobs.records import CaptureRecord
from shared.jobs.tables import captures


class CaptureStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def set(self, project_id: str, alias: str, percent: float, mask: bool) -> CaptureRecord:
        key = {"project_id": project_id, "alias": alias}
        with writing(self.engine) as connection:
            upsert(connection, captures, key | {"percent": percent, "mask": mask, "created_at": time.time()})
            return fetch_one(connection, CaptureRecord, select(captures).where(_of(project_id, alias)))

    def get(self, project_id: str, alias: str) -> CaptureRecord | None:
        with reading(self.engine) as connection:
            return fetch_first(connection, CaptureRecord, select(captures).where(_of(project_id, alias)))

    def end(self, project_id: str, alias: str) -> bool:
        """Whether there was one."""
        with writing(self.engine) as connection:
            return connection.execute(delete(captures).where(_of(project_id, alias))).rowcount > 0


def _of(project_id: str, alias: str) -> ColumnElement[bool]:
    return (captures.c.project_id == project_id) & (captures.c.alias == alias)
