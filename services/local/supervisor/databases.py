"""The databases of a run, as the local runner uses them: it migrates them first, and reads the processes' heartbeats."""

import contextlib
from functools import lru_cache

from sqlalchemy.exc import SQLAlchemyError

from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from shared.platform.settings import PlatformSettings

stores_of = lru_cache(open_stores)  # opening migrates; once per database is enough


def migrate(platform: PlatformSettings) -> None:
    """The newest schema. A database that is away is no fault here: each process opens it by itself, and waits for it."""
    with contextlib.suppress(SQLAlchemyError):
        stores_of(platform.database)
        open_ledger(platform.ledger_database)


def has_beaten(platform: PlatformSettings, pids: set[int]) -> bool:
    """Whether one of these processes wrote a heartbeat of late (their names end with the pid)."""
    try:
        workers = stores_of(platform.database).jobs.live_workers(3 * platform.lease.total_seconds())
    except SQLAlchemyError:
        return False
    return any(row.id.rpartition(":")[2] in {str(pid) for pid in pids} for row in workers)
