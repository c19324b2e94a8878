"""Is everything there that a job and a chat need?"""

import asyncio
from typing import Any

from services.api.context import ApiContext
from services.api.engine_client import EngineClient
from shared.contracts.steps import Queue
from shared.platform.log import get_logger

log = get_logger(__name__)
CHECK_S = 5.0
LOST_FOR_S = 600.0  # for so long a lost process is told of


async def readiness(context: ApiContext, engine: EngineClient) -> dict[str, bool]:
    """Part -> whether it is there: database, broker, engine, and queue:<name> for each queue's consumers."""
    database, broker, lives = await asyncio.gather(
        _within("database", asyncio.to_thread(_queues_served, context)),
        _within("broker", _ping(context.platform.redis_url)),
        _within("engine", engine.healthy()),
    )
    served: set[str] = database or set()
    return {
        "database": database is not None,
        "broker": broker is True,
        "engine": lives is True,
    } | {f"queue:{queue.value}": queue.value in served for queue in Queue}


async def _within(part: str, work) -> Any:
    """The result, or None when the part does not answer in time or at all; the reason goes to the log."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await work
    except Exception as error:  # whatever a driver raises, the answer is the same: the part is missing
        log.warning("not ready", part=part, error=repr(error))
        return None


def _queues_served(context: ApiContext) -> set[str]:
    workers = context.stores.jobs.live_workers(context.platform.lease.total_seconds())
    return {worker.queue for worker in workers if worker.queue}


async def lost(context: ApiContext) -> list[str]:
    """Processes that neither beat for a lease nor said goodbye, as service@host:pid; empty while the database is away."""
    lease = context.platform.lease.total_seconds()
    rows = await _within("workers", asyncio.to_thread(context.stores.overview.lost_workers, lease, LOST_FOR_S))
    return [row.id for row in rows or []]


async def _ping(url: str) -> bool:
    import redis.asyncio  # here: it costs 0.2 s of the API's start, and only this check needs it

    async with redis.asyncio.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
        return bool(await client.ping())
