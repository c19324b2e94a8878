"""Notifications of ended steps over Redis pub/sub. A lost one costs at most one poll of the database."""

import asyncio
from collections.abc import AsyncIterator

import redis
import redis.asyncio

from shared.platform import keepalive
from shared.platform.log import get_logger
from shared.platform.settings import platform_settings

log = get_logger(__name__)


def _channel() -> str:
    return f"{platform_settings().key_prefix}done"


def announce(client: redis.Redis, step_id: str) -> None:
    """Notify the orchestrators. They also poll the database, so a failure is only logged."""
    try:
        client.publish(_channel(), step_id)
    except redis.RedisError as error:
        log.warning("notification not sent", step_id=step_id, error=str(error))


async def ended_steps() -> AsyncIterator[str]:
    """Step ids as they are announced; reconnects without a limit."""
    while True:
        client = redis.asyncio.from_url(platform_settings().redis_url, **keepalive.REDIS)
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(_channel())
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        yield message["data"].decode()
        except (redis.RedisError, OSError) as error:
            log.warning("broker unavailable, polling the database", error=str(error))
            await asyncio.sleep(1)
        finally:
            await client.aclose()
