"""The audit log: who asked for which change, and its outcome. Old entries are removed by RetentionStore."""

import time
from dataclasses import asdict

import uuid_utils
from sqlalchemy import Connection, Engine, insert, select

from shared.db.engine import writing
from shared.db.paging import keyset_page
from shared.jobs.records import AuditEntry, AuditRecord
from shared.jobs.tables import audit


def add_entry(connection: Connection, project_id: str, entry: AuditEntry) -> None:
    """In the caller's transaction."""
    name = f"audit-{uuid_utils.uuid7().hex}"
    values = {"id": name, "project_id": project_id, **asdict(entry), "created_at": time.time()}
    connection.execute(insert(audit).values(**values))


class AuditStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, entry: AuditEntry) -> None:
        with writing(self.engine) as connection:
            add_entry(connection, project_id, entry)

    def page(self, view: str | None, after: str | None, limit: int) -> tuple[list[AuditRecord], bool]:
        """Newest first. view: a project, None for all projects. Raises UserError for an unknown `after`."""
        query = select(audit) if view is None else select(audit).where(audit.c.project_id == view)
        return keyset_page(self.engine, AuditRecord, query, audit.c.id, after, limit, "entry")
