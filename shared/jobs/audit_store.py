"""Who asked for which change, and what came of it. Rows are added and read, and go when they are old (see RetentionStore)."""

import time

import uuid_utils
from sqlalchemy import Engine, insert, select

from shared.contracts.errors import UserError
from shared.db.engine import reading, writing
from shared.jobs.records import AuditRecord
from shared.jobs.tables import audit


class AuditStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(
        self,
        project_id: str,
        caller: str,
        method: str,
        route: str,
        object_id: str | None,
        status: int,
        request_id: str,
    ) -> None:
        values = {
            "id": f"audit-{uuid_utils.uuid7().hex}",
            "project_id": project_id,
            "caller": caller,
            "method": method,
            "route": route,
            "object_id": object_id,
            "status": status,
            "request_id": request_id,
            "created_at": time.time(),
        }
        with writing(self.engine) as connection:
            connection.execute(insert(audit).values(**values))

    def page(self, view: str | None, after: str | None, limit: int) -> tuple[list[AuditRecord], bool]:
        """Newest first. view: a project, None for all of them. Raises UserError for an `after` that does not exist."""
        query = select(audit) if view is None else select(audit).where(audit.c.project_id == view)
        with reading(self.engine) as connection:
            if after:
                if connection.execute(query.where(audit.c.id == after)).first() is None:
                    raise UserError(f"no entry {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(audit.c.id < after)
            rows = list(connection.execute(query.order_by(audit.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit
