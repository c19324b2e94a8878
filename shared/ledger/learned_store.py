"""What was learned of providers, one row each, so that a restarted gateway does not learn it anew."""

import time

from sqlalchemy import Engine, delete, insert, select

from shared.contracts.json_types import Json
from shared.db.engine import reading, writing
from shared.ledger.tables import learned


class LearnedStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def load(self, provider: str, settings_hash: str, since: float) -> Json | None:
        """What was learned under these settings and saved after `since` (Unix seconds)."""
        where = (learned.c.provider == provider) & (learned.c.settings_hash == settings_hash)
        with reading(self.engine) as connection:
            query = select(learned.c.content).where(where, learned.c.saved_at > since)
            return connection.execute(query).scalar_one_or_none()

    def save(self, provider: str, settings_hash: str, content: Json | None) -> None:
        """None: forget it."""
        with writing(self.engine) as connection:
            connection.execute(delete(learned).where(learned.c.provider == provider))
            if content is not None:
                row = {
                    "provider": provider,
                    "settings_hash": settings_hash,
                    "content": content,
                    "saved_at": time.time(),
                }
                connection.execute(insert(learned).values(**row))
