"""API keys. They are issued and revoked, never removed: the audit log keeps naming them."""

import time
from collections.abc import Collection

import uuid_utils
from sqlalchemy import Engine, Select, insert, select, update

from shared.contracts.errors import NotFound
from shared.contracts.keys import Scope
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_first, fetch_one
from shared.db.paging import keyset_page
from shared.jobs.records import ApiKeyRecord
from shared.jobs.tables import api_keys, projects


class KeyStore:
    """project_id None: the operator's view, of every project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def add(
        self, project_id: str, name: str, scopes: Collection[Scope], digest: str, hint: str, expires_at: int | None
    ) -> ApiKeyRecord:
        """digest: the key's keyed hash; the key itself is never stored. Raises NotFound for an unknown project."""
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
            return fetch_one(connection, ApiKeyRecord, insert(api_keys).values(**values).returning(api_keys))

    def by_digest(self, digest: str) -> ApiKeyRecord | None:
        """Includes revoked and expired keys."""
        with reading(self.engine) as connection:
            return fetch_first(connection, ApiKeyRecord, select(api_keys).where(api_keys.c.digest == digest))

    def any(self) -> bool:
        """Whether a key was ever issued, revoked ones included."""
        with reading(self.engine) as connection:
            return connection.execute(select(api_keys.c.id).limit(1)).first() is not None

    def get(self, project_id: str | None, key_id: str) -> ApiKeyRecord:
        """Raises NotFound, also for another project's key."""
        with reading(self.engine) as connection:
            query = _visible(project_id).where(api_keys.c.id == key_id)
            return _checked(fetch_first(connection, ApiKeyRecord, query), key_id)

    def page(self, project_id: str | None, after: str | None, limit: int) -> tuple[list[ApiKeyRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`."""
        return keyset_page(self.engine, ApiKeyRecord, _visible(project_id), api_keys.c.id, after, limit, "key")

    def revoke(self, project_id: str | None, key_id: str) -> ApiKeyRecord:
        """Revoking again keeps the first time. Raises NotFound."""
        with writing(self.engine) as connection:
            query = _visible(project_id).where(api_keys.c.id == key_id).with_for_update()
            key = _checked(fetch_first(connection, ApiKeyRecord, query), key_id)
            if key.revoked_at is not None:
                return key
            revoked = update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=time.time())
            return fetch_one(connection, ApiKeyRecord, revoked.returning(api_keys))

    def note_use(self, key_id: str, at: float) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at))


def _visible(project_id: str | None) -> Select:
    return select(api_keys) if project_id is None else select(api_keys).where(api_keys.c.project_id == project_id)


def _checked(key: ApiKeyRecord | None, key_id: str) -> ApiKeyRecord:
    if key is None:
        raise NotFound(f"no key {key_id!r}", param="key_id", code="key_not_found")
    return key
