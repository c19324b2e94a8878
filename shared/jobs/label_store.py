"""Human preferences. They are added and listed, never changed, so a job finds the same ones whenever it looks."""

import time
from collections.abc import Sequence

import uuid_utils
from sqlalchemy import Engine, Row, func, select

from shared.contracts.errors import UserError
from shared.contracts.labels import Label
from shared.jobs.tables import labels
from shared.platform.database import insert_once, reading, writing


class LabelStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, rows: Sequence[Label]) -> tuple[int, int]:
        """All of them in one transaction. Returns (labels that are new, labels of the project now)."""
        with writing(self.engine) as connection:
            added = 0
            for row in rows:
                values = row.model_dump(mode="json") | {
                    "id": f"label-{uuid_utils.uuid7().hex}",
                    "project_id": project_id,
                    "digest": row.digest,
                    "created_at": time.time(),
                }
                added += insert_once(connection, labels, values) is not None
            count = select(func.count()).select_from(labels).where(labels.c.project_id == project_id)
            return added, connection.execute(count).scalar_one()

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[Row], bool]:
        """Newest first. Raises UserError for an `after` that does not exist."""
        query = select(labels).where(labels.c.project_id == project_id)
        with reading(self.engine) as connection:
            if after:
                if connection.execute(query.where(labels.c.id == after)).first() is None:
                    raise UserError(f"no label {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(labels.c.id < after)
            rows = list(connection.execute(query.order_by(labels.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def sample(self, project_id: str, count: int, until: float) -> list[Row]:
        """At most `count` labels that were there at a time, in the order of their digests, which is no order of anything.

        The same for every job of the project between two additions, so that the judge is asked once.
        """
        query = select(labels).where(labels.c.project_id == project_id, labels.c.created_at <= until)
        with reading(self.engine) as connection:
            return list(connection.execute(query.order_by(labels.c.digest).limit(count)))
