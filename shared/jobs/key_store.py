"""API keys. They are made and revoked, never changed and never removed: who did what stays known."""

import time
from collections.abc import Collection

import uuid_utils
from sqlalchemy import Engine, Select, insert, select, update

from shared.contracts.errors import NotFound, UserError
from shared.contracts.keys import Scope
from shared.db.engine import reading, writing
from shared.jobs.records import ApiKeyRecord
from shared.jobs.tables import api_keys, projects


class KeyStore:
    """project_id None: the operator's view, of every project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def add(
        self, project_id: str, name: str, scopes: Collection[Scope], digest: str, hint: str, expires_at: int | None
    ) -> ApiKeyRecord:
        """digest: the key's keyed hash; the key itself never comes here. Raises NotFound for a project that is not."""
        values = {
            "id": f"key-{uuid_utils.uuid7().hex}",
            "project_id": project_id,
            "name": name,
            "scopes": sorted(set(scopes)),
            "digest": digest,
            "hint": hint,
            "created_at": time.time(),
            "expires_at": expires_at,
        }
        with writing(self.engine) as connection:
            if connection.execute(select(projects.c.id).where(projects.c.id == project_id)).first() is None:
                raise NotFound(f"no project {project_id!r}", param="project", code="project_not_found")
            return connection.execute(insert(api_keys).values(**values).returning(api_keys)).one()

    def by_digest(self, digest: str) -> ApiKeyRecord | None:
        """Also one that was revoked or has expired."""
        with reading(self.engine) as connection:
            return connection.execute(select(api_keys).where(api_keys.c.digest == digest)).first()

    def any(self) -> bool:
        """Whether a key was ever made, be it revoked since."""
        with reading(self.engine) as connection:
            return connection.execute(select(api_keys.c.id).limit(1)).first() is not None

    def get(self, project_id: str | None, key_id: str) -> ApiKeyRecord:
        """Raises NotFound, also for another project's key."""
        with reading(self.engine) as connection:
            return _found(connection.execute(_seen_by(project_id).where(api_keys.c.id == key_id)).first(), key_id)

    def page(self, project_id: str | None, after: str | None, limit: int) -> tuple[list[ApiKeyRecord], bool]:
        """Newest first. Raises UserError for an `after` that does not exist."""
        query = _seen_by(project_id)
        with reading(self.engine) as connection:
            if after:
                if connection.execute(query.where(api_keys.c.id == after)).first() is None:
                    raise UserError(f"no key {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(api_keys.c.id < after)
            rows = list(connection.execute(query.order_by(api_keys.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def revoke(self, project_id: str | None, key_id: str) -> ApiKeyRecord:
        """It opens nothing any more. Once is enough: the first time stays. Raises NotFound."""
        with writing(self.engine) as connection:
            query = _seen_by(project_id).where(api_keys.c.id == key_id).with_for_update()
            row = _found(connection.execute(query).first(), key_id)
            if row.revoked_at is not None:
                return row
            revoked = update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=time.time())
            return connection.execute(revoked.returning(api_keys)).one()

    def note_use(self, key_id: str, at: float) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at))


def _seen_by(project_id: str | None) -> Select:
    return select(api_keys) if project_id is None else select(api_keys).where(api_keys.c.project_id == project_id)


def _found(row: ApiKeyRecord | None, key_id: str) -> ApiKeyRecord:
    if row is None:
        raise NotFound(f"no key {key_id!r}", param="key_id", code="key_not_found")
    return row
