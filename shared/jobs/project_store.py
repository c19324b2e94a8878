"""Projects: what belongs to one does not exist for another. What each may use stands beside its name."""

import time
from collections.abc import Mapping
from typing import Any

import uuid_utils
from sqlalchemy import Engine, Select, insert, select, tuple_, update

from shared.contracts.errors import NotFound, UserError
from shared.db.engine import reading, writing
from shared.jobs.records import ProjectRecord
from shared.jobs.tables import projects


class ProjectStore:
    """project_id None, where it is a view: the operator's, of every project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, name: str, **limits: int | None) -> ProjectRecord:
        values = {"id": f"proj_{uuid_utils.uuid7().hex}", "name": name, "created_at": time.time()} | limits
        with writing(self.engine) as connection:
            return connection.execute(insert(projects).values(**values).returning(projects)).one()

    def get(self, view: str | None, project_id: str) -> ProjectRecord:
        """Raises NotFound, also for a project that the view does not show."""
        with reading(self.engine) as connection:
            row = connection.execute(_seen_by(view).where(projects.c.id == project_id)).first()
        if row is None:
            raise NotFound(f"no project {project_id!r}", param="project_id", code="project_not_found")
        return row

    def page(self, view: str | None, after: str | None, limit: int) -> tuple[list[ProjectRecord], bool]:
        """Newest first. Raises UserError for an `after` that does not exist."""
        query = _seen_by(view)
        with reading(self.engine) as connection:
            if after:
                last = connection.execute(query.where(projects.c.id == after)).first()
                if last is None:
                    raise UserError(f"no project {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(tuple_(projects.c.created_at, projects.c.id) < (last.created_at, last.id))
            newest = query.order_by(projects.c.created_at.desc(), projects.c.id.desc())
            rows = list(connection.execute(newest.limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def change(self, project_id: str, values: Mapping[str, Any]) -> ProjectRecord:
        """values: columns. Those that are not named stay."""
        with writing(self.engine) as connection:
            changed = update(projects).where(projects.c.id == project_id).values(id=project_id, **values)
            return connection.execute(changed.returning(projects)).one()

    def requests_per_minute(self, project_id: str) -> int | None:
        with reading(self.engine) as connection:
            query = select(projects.c.requests_per_minute).where(projects.c.id == project_id)
            return connection.execute(query).scalar_one_or_none()


def _seen_by(view: str | None) -> Select:
    return select(projects) if view is None else select(projects).where(projects.c.id == view)
