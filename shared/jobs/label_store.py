"""Human preferences. They are added, listed, withdrawn and forgotten, never changed. Jobs posted before a withdrawal still use the label, so
each job reads the same labels at any time."""

import time
from collections.abc import Collection, Sequence

import uuid_utils
from sqlalchemy import ColumnElement, Engine, delete, func, or_, select, update

from shared.contracts.errors import NotFound
from shared.contracts.labels import Label
from shared.db.engine import insert_once, reading, writing
from shared.db.fetch import fetch_all
from shared.db.paging import keyset_page
from shared.jobs.records import LabelRecord
from shared.jobs.tables import labels

AT_ONCE = 500  # ids of one statement


class LabelStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, preferences: Sequence[Label]) -> tuple[int, int]:
        """Add all in one transaction. Returns (new labels, labels of the project now)."""
        with writing(self.engine) as connection:
            added = 0
            for label in preferences:
                values = label.model_dump(mode="json") | {
                    "id": f"label-{uuid_utils.uuid7().hex}",
                    "project_id": project_id,
                    "digest": label.digest,
                    "created_at": time.time(),
                }
                added += insert_once(connection, labels, values) is not None
            count = select(func.count()).select_from(labels).where(*_live(project_id))
            return added, connection.execute(count).scalar_one()

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[LabelRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`, which may be a withdrawn label."""
        query = select(labels).where(*_live(project_id))
        with_withdrawn = select(labels).where(labels.c.project_id == project_id)
        return keyset_page(self.engine, LabelRecord, query, labels.c.id, after, limit, "label", cursors=with_withdrawn)

    def delete(self, project_id: str, label_id: str) -> None:
        """Withdraw a label. Raises NotFound, also for a withdrawn one."""
        with writing(self.engine) as connection:
            withdrawn = connection.execute(
                update(labels).where(*_live(project_id), labels.c.id == label_id).values(deleted_at=time.time())
            )
            if withdrawn.rowcount == 0:
                raise NotFound(f"no label {label_id!r}", param="label_id", code="label_not_found")

    def forget(self, project_id: str, questions: Collection[str], dry_run: bool = False) -> int:
        """Remove (dry_run: count) the labels of these questions, withdrawn ones too; returns how many. A job that goes on afterwards
        reads other labels than before."""
        if not questions:
            return 0
        mine = labels.c.project_id == project_id
        with (reading if dry_run else writing)(self.engine) as connection:
            every = connection.execute(select(labels.c.id, labels.c.question).where(mine))
            there = [name for name, question in every if question.strip() in questions]
            for start in range(0, 0 if dry_run else len(there), AT_ONCE):
                some = there[start : start + AT_ONCE]
                connection.execute(delete(labels).where(mine, labels.c.id.in_(some)))
        return len(there)

    def sample(self, project_id: str, count: int, until: float) -> list[LabelRecord]:
        """At most `count` labels that were live at a time (Unix seconds), in the arbitrary order of their digests.

        All jobs of the project between two changes get the same sample, so that the judge is asked once.
        """
        live = or_(labels.c.deleted_at.is_(None), labels.c.deleted_at > until)
        query = select(labels).where(labels.c.project_id == project_id, labels.c.created_at <= until, live)
        with reading(self.engine) as connection:
            return fetch_all(connection, LabelRecord, query.order_by(labels.c.digest).limit(count))


def _live(project_id: str) -> tuple[ColumnElement[bool], ...]:
    """A project's labels that were not withdrawn."""
    return labels.c.project_id == project_id, labels.c.deleted_at.is_(None)
