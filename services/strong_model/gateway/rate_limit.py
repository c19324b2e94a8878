"""Requests and tokens per minute: token buckets that all gateways share through Redis.

A bucket holds a sixth of a minute's worth and fills with the rest evenly, so that no sixty seconds see more than the limit.
While Redis is away each process keeps buckets of its own: the limit then holds for each of them alone.
"""

import time
from typing import NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from services.strong_model.settings import Provider
from shared.platform.log import get_logger

log = get_logger(__name__)
MINUTE_S = 60.0
AWAY_S = 5.0  # how long a Redis that did not answer is left alone
ANSWER_S = 1.0
# KEYS: buckets. ARGV: per bucket rate, capacity, cost. Takes from all or from none; returns the seconds to wait. What costs
# more than a bucket holds passes when it is full, and leaves it below zero.
TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local levels, wait = {}, 0
for i, key in ipairs(KEYS) do
  local rate, capacity, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local found = redis.call('HMGET', key, 'level', 'at')
  local level, at = tonumber(found[1]) or capacity, tonumber(found[2]) or now
  levels[i] = math.min(capacity, level + math.max(0, now - at) * rate)
  wait = math.max(wait, (math.min(cost, capacity) - levels[i]) / rate)
end
for i, key in ipairs(KEYS) do
  if wait <= 0 then levels[i] = levels[i] - tonumber(ARGV[3 * i]) end
  redis.call('HSET', key, 'level', tostring(levels[i]), 'at', tostring(now))
  redis.call('PEXPIRE', key, 600000)
end
return tostring(wait)
"""


class Bucket(NamedTuple):
    """rate: units per second; capacity: units that may go at once."""

    name: str
    rate: float
    capacity: float

    @classmethod
    def per_minute(cls, name: str, limit: int) -> "Bucket":
        capacity = max(1.0, limit / 6)
        return cls(name, max(limit - capacity, limit / 2) / MINUTE_S, capacity)


class Pace:
    """The buckets of one provider. Without limits nothing is asked of Redis."""

    def __init__(self, provider: Provider, redis_url: str, key_prefix: str):
        given = (("requests", provider.requests_per_minute), ("tokens", provider.tokens_per_minute))
        self.buckets = [
            Bucket.per_minute(f"{key_prefix}pace:{provider.name}:{unit}", limit) for unit, limit in given if limit
        ]
        self._own: dict[str, tuple[float, float]] = {}  # level and when, while Redis is away
        self._away_until = 0.0
        self._redis = redis.asyncio.from_url(redis_url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)
        self._take = self._redis.register_script(TAKE)

    async def close(self) -> None:
        await self._redis.aclose()

    async def wait_s(self, tokens: int) -> float:
        """Take one request of so many tokens; 0: taken, else the seconds after which to ask again."""
        if not self.buckets:
            return 0.0
        costs = [tokens if bucket.name.endswith(":tokens") else 1 for bucket in self.buckets]
        if time.monotonic() >= self._away_until:
            arguments = [
                value for b, cost in zip(self.buckets, costs, strict=True) for value in (b.rate, b.capacity, cost)
            ]
            try:
                return max(0.0, float(await self._take(keys=[b.name for b in self.buckets], args=arguments)))
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + AWAY_S
                log.warning("redis away: this process keeps to the limits by itself", error=str(error))
        return self._wait_alone(costs)

    async def give_back(self, tokens: int) -> None:
        """Tokens that were taken and not used. A hint that is lost costs some seconds, so nothing is tried twice."""
        for bucket in self.buckets if tokens > 0 else ():
            if not bucket.name.endswith(":tokens"):
                continue
            if bucket.name in self._own:
                level, at = self._own[bucket.name]
                self._own[bucket.name] = (level + tokens, at)
            if time.monotonic() >= self._away_until:
                try:
                    await self._redis.hincrbyfloat(bucket.name, "level", tokens)
                except (RedisError, OSError) as error:
                    log.warning("tokens not given back to the bucket", error=str(error))

    def _wait_alone(self, costs: list[int]) -> float:
        now, wait, levels = time.monotonic(), 0.0, []
        for bucket, cost in zip(self.buckets, costs, strict=True):
            level, at = self._own.get(bucket.name, (bucket.capacity, now))
            levels.append(min(bucket.capacity, level + (now - at) * bucket.rate))
            wait = max(wait, (min(cost, bucket.capacity) - levels[-1]) / bucket.rate)
        for bucket, cost, level in zip(self.buckets, costs, levels, strict=True):
            self._own[bucket.name] = (level - cost if wait <= 0 else level, now)
        return max(0.0, wait)
