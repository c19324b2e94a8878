"""Whether every part that jobs and chats need is available."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from services.api.context import ApiContext
from services.api.engine_client import EngineClient
from shared.contracts.steps import Queue
from shared.platform.log import get_logger

log = get_logger(__name__)
Result = TypeVar("Result")
CHECK_S = 5.0
LOST_FOR_S = 600.0  # a lost process is reported for this long


async def readiness(context: ApiContext, engine: EngineClient) -> dict[str, bool]:
    """Part -> whether it is available: database, broker, engine, and queue:<name> for each queue's consumers."""
    served, broker, healthy = await asyncio.gather(
        _within("database", asyncio.to_thread(_queues_served, context)),
        _within("broker", _ping(context.platform.redis_url)),
        _within("engine", engine.healthy()),
    )
    checks = {"database": served is not None, "broker": broker is True, "engine": healthy is True}
    return checks | {f"queue:{queue.value}": queue.value in (served or ()) for queue in Queue}


async def _within(part: str, check: Awaitable[Result]) -> Result | None:
    """The result, or None if the part fails or does not answer in time; the log has the reason."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await check
    except Exception as error:  # whatever a driver raises: the part is unavailable
        log.warning("not ready", part=part, error=repr(error))
        return None


def _queues_served(context: ApiContext) -> set[str]:
    workers = context.stores.jobs.live_workers(context.platform.lease.total_seconds())
    return {worker.queue for worker in workers if worker.queue}


async def lost(context: ApiContext) -> list[str]:
    """Processes whose heartbeat stopped without a sign-off, as service@host:pid; empty while the database is unavailable."""
    lease = context.platform.lease.total_seconds()
    rows = await _within("workers", asyncio.to_thread(context.stores.overview.lost_workers, lease, LOST_FOR_S))
    return [row.id for row in rows or []]


async def _ping(url: str) -> bool:
    import redis.asyncio  # here: importing it takes 0.2 s, and only this check needs it

    async with redis.asyncio.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
        return bool(await client.ping())
