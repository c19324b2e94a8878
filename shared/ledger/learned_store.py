"""What was learned of providers, one row each, so that a restarted gateway does not learn it anew."""

import time

from sqlalchemy import Engine, delete, select

from shared.contracts.json_types import Json
from shared.db.engine import reading, upsert, writing
from shared.ledger.tables import learned


class LearnedStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def load(self, provider: str, settings_hash: str) -> Json | None:
        """What was learned under these settings."""
        where = (learned.c.provider == provider) & (learned.c.settings_hash == settings_hash)
        with reading(self.engine) as connection:
            query = select(learned.c.content).where(where)
            return connection.execute(query).scalar_one_or_none()

    def save(self, provider: str, settings_hash: str, content: Json | None) -> None:
        """None: forget it."""
        row = {"provider": provider, "settings_hash": settings_hash, "content": content, "saved_at": time.time()}
        with writing(self.engine) as connection:
            if content is None:
                connection.execute(delete(learned).where(learned.c.provider == provider))
            else:
                upsert(connection, learned, row)
