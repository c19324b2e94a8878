"""The rate limiter: requests and tokens per minute, in token buckets that all gateways share through Redis.

A bucket holds a sixth of a minute's worth and fills with the rest evenly, so that no sixty seconds see more than the limit.
While Redis is unavailable each process keeps buckets of its own: the limit then holds for each process alone.
"""

import asyncio
import time
from typing import NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from services.strong_model.gateway import completions
from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from shared.platform.log import get_logger

log = get_logger(__name__)
MINUTE_S = 60.0
UNAVAILABLE_S = 5.0  # until a Redis that did not answer is asked again
REDIS_TIMEOUT_S = 1.0
# KEYS: buckets. ARGV: per bucket rate, capacity, cost. Takes from all or from none; returns the seconds to wait. What costs
# more than a bucket holds passes when the bucket is full, and leaves it below zero.
TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local levels, wait = {}, 0
for i, key in ipairs(KEYS) do
  local rate, capacity, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local stored = redis.call('HMGET', key, 'level', 'at')
  local level, at = tonumber(stored[1]) or capacity, tonumber(stored[2]) or now
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


class RateLimiter:
    """The buckets of one provider, and the pause that it asked for. Without limits Redis is not asked.

    longest_pause_s: a longer `retry-after` holds back only the request that got it.
    """

    def __init__(self, provider: Provider, redis_url: str, key_prefix: str, longest_pause_s: float):
        limits = {"requests": provider.requests_per_minute, "tokens": provider.tokens_per_minute}
        self.provider = provider
        self.buckets = {
            unit: Bucket.per_minute(f"{key_prefix}pace:{provider.name}:{unit}", limit)
            for unit, limit in limits.items()
            if limit
        }
        self.longest_pause_s = longest_pause_s
        self._paused_until = 0.0
        self._local: dict[str, tuple[float, float]] = {}  # unit -> level and time, while Redis is unavailable
        self._redis_retry_at = 0.0
        self._redis = redis.asyncio.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._take = self._redis.register_script(TAKE)

    async def close(self) -> None:
        await self._redis.aclose()

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        """Take the most tokens that the call can use, and give back what it did not."""
        call = attempts.call
        tokens = completions.most(self.provider, attempts.sent).tokens
        while seconds := self.pause_s() or await self.wait_s(tokens):
            await call.unless_stopped(asyncio.sleep(seconds))
        attempts.begin()
        try:
            completion = await proceed(attempts)
        except ProviderError as failure:
            if failure.overloaded and failure.retry_after:
                pause = min(failure.retry_after, self.longest_pause_s)
                self._paused_until = max(self._paused_until, time.monotonic() + pause)
            raise
        if completion.cost is not None:
            await self.give_back(tokens - completion.cost.input_tokens - completion.cost.output_tokens)
        return completion

    def pause_s(self) -> float:
        """Seconds until the provider wants to be asked again."""
        return max(0.0, self._paused_until - time.monotonic())

    async def wait_s(self, tokens: int) -> float:
        """Take one request of so many tokens; 0: taken, else the seconds after which to ask again."""
        if not self.buckets:
            return 0.0
        costs = {unit: tokens if unit == "tokens" else 1 for unit in self.buckets}
        if time.monotonic() >= self._redis_retry_at:
            names = [bucket.name for bucket in self.buckets.values()]
            args = [value for unit, b in self.buckets.items() for value in (b.rate, b.capacity, costs[unit])]
            try:
                return max(0.0, float(await self._take(keys=names, args=args)))
            except (RedisError, OSError) as error:
                self._redis_retry_at = time.monotonic() + UNAVAILABLE_S
                log.warning("redis unavailable: this process keeps the limits alone", error=str(error))
        return self._take_locally(costs)

    async def give_back(self, tokens: int) -> None:
        """Return tokens that were taken and not used, if it is possible: losing them costs some seconds only."""
        bucket = self.buckets.get("tokens")
        if bucket is None or tokens <= 0:
            return
        if "tokens" in self._local:
            level, at = self._local["tokens"]
            self._local["tokens"] = (level + tokens, at)
        if time.monotonic() >= self._redis_retry_at:
            try:
                await self._redis.hincrbyfloat(bucket.name, "level", tokens)
            except (RedisError, OSError) as error:
                log.warning("tokens not given back to the bucket", error=str(error))

    def _take_locally(self, costs: dict[str, int]) -> float:
        now, wait, levels = time.monotonic(), 0.0, {}
        for unit, bucket in self.buckets.items():
            level, at = self._local.get(unit, (bucket.capacity, now))
            levels[unit] = min(bucket.capacity, level + (now - at) * bucket.rate)
            wait = max(wait, (min(costs[unit], bucket.capacity) - levels[unit]) / bucket.rate)
        for unit, level in levels.items():
            self._local[unit] = (level - costs[unit] if wait <= 0 else level, now)
        return max(0.0, wait)
