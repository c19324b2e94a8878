"""Projects and their limits. Objects of one project do not exist for another."""

import time
from collections.abc import Mapping
from typing import Any

import uuid_utils
from sqlalchemy import Engine, Select, insert, select, update

from shared.contracts.errors import NotFound
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_first, fetch_one
from shared.db.paging import keyset_page
from shared.jobs.records import ProjectRecord
from shared.jobs.tables import projects


class ProjectStore:
    """view: the project that asks, None for the operator, who sees every project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, name: str, **limits: int | None) -> ProjectRecord:
        values = {"id": f"proj_{uuid_utils.uuid7().hex}", "name": name, "created_at": time.time()} | limits
        with writing(self.engine) as connection:
            return fetch_one(connection, ProjectRecord, insert(projects).values(**values).returning(projects))

    def get(self, view: str | None, project_id: str) -> ProjectRecord:
        """Raises NotFound, also for a project outside the view."""
        with reading(self.engine) as connection:
            project = fetch_first(connection, ProjectRecord, _visible(view).where(projects.c.id == project_id))
        if project is None:
            raise NotFound(f"no project {project_id!r}", param="project_id", code="project_not_found")
        return project

    def page(self, view: str | None, after: str | None, limit: int) -> tuple[list[ProjectRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`."""
        by_time = (projects.c.created_at, projects.c.id)  # the default project's id is no UUIDv7
        return keyset_page(
            self.engine, ProjectRecord, _visible(view), projects.c.id, after, limit, "project", order=by_time
        )

    def change(self, project_id: str, values: Mapping[str, Any]) -> ProjectRecord:
        """values: by column; the other columns stay."""
        with writing(self.engine) as connection:
            changed = update(projects).where(projects.c.id == project_id).values(id=project_id, **values)
            return fetch_one(connection, ProjectRecord, changed.returning(projects))

    def requests_per_minute(self, project_id: str) -> int | None:
        with reading(self.engine) as connection:
            query = select(projects.c.requests_per_minute).where(projects.c.id == project_id)
            return connection.execute(query).scalar_one_or_none()


def _visible(view: str | None) -> Select:
    return select(projects) if view is None else select(projects).where(projects.c.id == view)
