"""Human preferences. They are added, listed and taken back, never changed; a label that was taken back stays for the jobs that
were posted before, so each job finds the same ones whenever it looks."""

import time
from collections.abc import Sequence

import uuid_utils
from sqlalchemy import ColumnElement, Engine, func, or_, select, update

from shared.contracts.errors import NotFound, UserError
from shared.contracts.labels import Label
from shared.db.engine import insert_once, reading, writing
from shared.jobs.records import LabelRecord
from shared.jobs.tables import labels


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
            count = select(func.count()).select_from(labels).where(*_live(project_id))
            return added, connection.execute(count).scalar_one()

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[LabelRecord], bool]:
        """Newest first. Raises UserError for an `after` that does not exist."""
        query = select(labels).where(*_live(project_id))
        with reading(self.engine) as connection:
            if after:  # it may have been taken back since
                mine = select(labels.c.id).where(labels.c.project_id == project_id, labels.c.id == after)
                if connection.execute(mine).first() is None:
                    raise UserError(f"no label {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(labels.c.id < after)
            rows = list(connection.execute(query.order_by(labels.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def delete(self, project_id: str, label_id: str) -> None:
        """Take a label back. Raises NotFound, also for one that was taken back already."""
        with writing(self.engine) as connection:
            taken = connection.execute(
                update(labels).where(*_live(project_id), labels.c.id == label_id).values(deleted_at=time.time())
            )
            if taken.rowcount == 0:
                raise NotFound(f"no label {label_id!r}", param="label_id", code="label_not_found")

    def sample(self, project_id: str, count: int, until: float) -> list[LabelRecord]:
        """At most `count` labels that were there at a time, in the order of their digests, which is no order of anything.

        The same for every job of the project between two changes, so that the judge is asked once.
        """
        there = or_(labels.c.deleted_at.is_(None), labels.c.deleted_at > until)
        query = select(labels).where(labels.c.project_id == project_id, labels.c.created_at <= until, there)
        with reading(self.engine) as connection:
            return list(connection.execute(query.order_by(labels.c.digest).limit(count)))


def _live(project_id: str) -> tuple[ColumnElement[bool], ...]:
    """A project's labels that were not taken back."""
    return labels.c.project_id == project_id, labels.c.deleted_at.is_(None)
