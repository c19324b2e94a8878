"""What the gateways of one system share through Redis: calls in flight, pauses, consecutive failures, cancelled steps.

Budgets and equal requests are shared through the ledger instead. Everything here expires by itself, so that a gateway that was killed does not block
anything for long. While Redis is unavailable each gateway uses only what it knows itself.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import redis.asyncio
from redis.exceptions import RedisError

from shared.platform import keepalive
from shared.platform.log import get_logger

log = get_logger(__name__)
UNAVAILABLE_S = 5.0  # until a Redis that did not answer is asked again
TIMEOUT_S = 1.0
SLOT_S = 15.0  # a call's slot without renewal
RENEW_S = 4.0
POLL_S = 0.05  # between two tries for a slot, up to MOST_POLL_S
MOST_POLL_S = 0.5
FORGET_MS = 600_000
T = TypeVar("T")
# KEYS: the slots, the limit. ARGV: slot, most, lease in seconds. Returns 1 with a slot, 0 without.
ACQUIRE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local limit = math.min(tonumber(ARGV[2]), tonumber(redis.call('GET', KEYS[2])) or tonumber(ARGV[2]))
if redis.call('ZCARD', KEYS[1]) >= math.max(1, limit) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], 600000)
return 1
"""
# KEYS: the slots. ARGV: lease in seconds, slots. Only those that are still held: an expired one may be another's by now.
RENEW = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
"""
# KEYS: failures in a row, the probe. ARGV: most failures, pause in ms. Returns ms to wait; 0 makes the caller the probe.
ADMIT = """
if (tonumber(redis.call('GET', KEYS[1])) or 0) < tonumber(ARGV[1]) then return 0 end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[2]) then return 0 end
return math.max(1, redis.call('PTTL', KEYS[2]))
"""
FAILED = """
local failures = redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], 600000)
if failures >= tonumber(ARGV[1]) then redis.call('SET', KEYS[2], '1', 'PX', ARGV[2]) end
"""
# KEYS: the pause. ARGV: ms. A longer one stays.
PAUSE = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
"""


class CancelledStep(NamedTuple):
    step_id: str
    client_id: str | None


class SharedState:
    """One per gateway."""

    def __init__(self, redis_url: str, key_prefix: str):
        self._redis = redis.asyncio.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._listening = redis.asyncio.from_url(redis_url, socket_connect_timeout=TIMEOUT_S, **keepalive.REDIS)
        self._prefix = f"{key_prefix}gateway:"
        self._retry_at = 0.0
        self._scripts = {text: self._redis.register_script(text) for text in (ACQUIRE, RENEW, ADMIT, FAILED, PAUSE)}
        self._held: dict[str, set[str]] = {}  # provider -> slots of this gateway
        self._me = uuid.uuid4().hex

    async def close(self) -> None:
        for name, slots in self._held.items():
            if slots:
                await self._ask(self._redis.zrem, self._key("slots", name), *slots)
        await self._redis.aclose()
        await self._listening.aclose()

    def _key(self, kind: str, provider: str = "") -> str:
        return f"{self._prefix}{kind}:{provider}"

    async def _ask(self, command: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T | None:
        """None while Redis is unavailable."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            return await command(*args, **options)
        except (RedisError, OSError) as error:
            self._retry_at = time.monotonic() + UNAVAILABLE_S
            log.warning("redis unavailable: this gateway goes by what it knows itself", error=str(error))
            return None

    # calls at once

    async def acquire(self, provider: str, most: int) -> str:
        """A slot among all gateways' calls to a provider, once there is one."""
        slot, pause_s = uuid.uuid4().hex, POLL_S
        keys = [self._key("slots", provider), self._key("limit", provider)]
        while await self._ask(self._scripts[ACQUIRE], keys=keys, args=[slot, most, SLOT_S]) == 0:
            await asyncio.sleep(pause_s)
            pause_s = min(MOST_POLL_S, 1.5 * pause_s)
        self._held.setdefault(provider, set()).add(slot)
        return slot

    async def release(self, provider: str, slot: str) -> None:
        self._held.get(provider, set()).discard(slot)
        await self._ask(self._redis.zrem, self._key("slots", provider), slot)

    async def set_limit(self, provider: str, limit: int) -> None:
        await self._ask(self._redis.set, self._key("limit", provider), limit, px=FORGET_MS)

    async def renew_forever(self) -> None:
        """Keep the slots of calls that take longer than a lease."""
        while True:
            await asyncio.sleep(RENEW_S)
            for provider, slots in self._held.items():
                if slots:
                    await self._ask(self._scripts[RENEW], keys=[self._key("slots", provider)], args=[SLOT_S, *slots])

    # failures in a row

    async def may_pass(self, provider: str, most_failures: int, pause_s: float) -> float:
        """Seconds until an attempt may pass; 0 from an open breaker makes the caller's attempt the probe of all gateways."""
        keys, args = self._breaker_keys(provider), [most_failures, max(1, int(pause_s * 1000))]
        return (await self._ask(self._scripts[ADMIT], keys=keys, args=args) or 0) / 1000

    async def failed(self, provider: str, most_failures: int, pause_s: float) -> None:
        keys, args = self._breaker_keys(provider), [most_failures, max(1, int(pause_s * 1000))]
        await self._ask(self._scripts[FAILED], keys=keys, args=args)

    async def answered(self, provider: str) -> None:
        await self._ask(self._redis.delete, *self._breaker_keys(provider))

    def _breaker_keys(self, provider: str) -> list[str]:
        return [self._key("failures", provider), self._key("probe", provider)]

    # the pause that a provider asks for

    async def pause(self, provider: str, seconds: float) -> None:
        if seconds > 0:
            await self._ask(
                self._scripts[PAUSE], keys=[self._key("pause", provider)], args=[max(1, int(seconds * 1000))]
            )

    async def pause_s(self, provider: str) -> float:
        left = await self._ask(self._redis.pttl, self._key("pause", provider))
        return max(0, left or 0) / 1000

    # cancelled steps

    async def tell_cancelled(self, step: CancelledStep) -> None:
        message = json.dumps({"from": self._me} | step._asdict())
        await self._ask(self._redis.publish, self._key("cancelled"), message)

    async def cancelled(self) -> AsyncIterator[CancelledStep]:
        """Steps that another gateway was told to cancel, forever."""
        while True:
            try:
                async with self._listening.pubsub() as messages:
                    await messages.subscribe(self._key("cancelled"))
                    async for message in messages.listen():
                        if message["type"] != "message":
                            continue
                        told = json.loads(message["data"])
                        if told.pop("from") != self._me:
                            yield CancelledStep(**told)
            except (RedisError, OSError):
                await asyncio.sleep(UNAVAILABLE_S)
