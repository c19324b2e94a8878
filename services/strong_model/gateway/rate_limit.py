"""The rate limiter: requests and tokens per minute, in token buckets that all gateways share through Redis; and the gate that a
provider's own refusals close for all its calls.

A bucket holds a sixth of a minute's worth and fills with the rest evenly, so that no sixty seconds see more than the limit.
While Redis is unavailable each process keeps buckets of its own: the limit then holds for each process alone.
"""

import asyncio
import time
from typing import NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from services.strong_model.gateway import completions, errors
from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.shared_state import SharedState
from shared.platform.log import get_logger

log = get_logger(__name__)
MINUTE_S = 60.0
LONGEST_S = 26 * 3600.0  # no pause of a provider is longer: it is asked again
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


class Gate:
    """The pause of one provider. It says itself how long, or each burst of refusals doubles a pause of our own.

    backoff_s, most_s: the first and the longest pause of our own. longest_s: so long a pause is waited for here; during a longer
    one, such as that of a day's quota, calls end at once and the jobs' steps rest.
    """

    def __init__(self, provider: Provider, backoff_s: float, most_s: float, longest_s: float):
        self.provider = provider
        self.backoff_s, self.most_s, self.longest_s = backoff_s, most_s, longest_s
        self._until = self._closed_at = 0.0  # monotonic seconds
        self._bursts = 0
        self._cause: ProviderError | None = None

    def pause_s(self) -> float:
        """Seconds until the provider wants to be asked again."""
        return max(0.0, self._until - time.monotonic())

    def wait_s(self) -> float:
        """As pause_s. Raises ProviderError where that is longer than calls wait here."""
        seconds = self.pause_s()
        if seconds > self.longest_s:
            raise errors.paused(self.provider, seconds, self._cause)
        return seconds

    def refused(self, failure: ProviderError, began_at: float) -> None:
        """An attempt that began then failed; too many calls close the gate."""
        if failure.limited:
            pause = failure.retry_after
        elif failure.overloaded and failure.retry_after:
            pause = min(failure.retry_after, self.longest_s)
        else:
            return
        if pause is None:
            if began_at <= self._closed_at:
                return  # of the burst that closed it
            pause = min(self.backoff_s * 2 ** min(self._bursts, 20), self.most_s)
            self._bursts += 1
        now = time.monotonic()
        self._cause, self._closed_at = failure, now
        self._until = max(self._until, now + min(pause, LONGEST_S))

    def told(self, seconds: float) -> None:
        """Another gateway was refused, and asked to wait for so long."""
        self._until = max(self._until, time.monotonic() + min(seconds, LONGEST_S))

    def answered(self) -> None:
        """Not back to the first pause at once: right after a pause the provider answers some calls more."""
        self._bursts = max(0, self._bursts - 1)


class RateLimiter:
    """The buckets of one provider, and the pause that it asked for. Without limits Redis is not asked.

    gate: the pause, which is one for all calls. shared: tells the other gateways of it; None: this one is alone.
    """

    def __init__(
        self, provider: Provider, redis_url: str, key_prefix: str, gate: Gate, shared: SharedState | None = None
    ):
        self.shared = shared
        limits = {"requests": provider.requests_per_minute, "tokens": provider.tokens_per_minute}
        self.provider = provider
        self.buckets = {
            unit: Bucket.per_minute(f"{key_prefix}pace:{provider.name}:{unit}", limit)
            for unit, limit in limits.items()
            if limit
        }
        self.gate = gate
        self._local: dict[str, tuple[float, float]] = {}  # unit -> level and time, while Redis is unavailable
        self._redis_retry_at = 0.0
        self._redis = redis.asyncio.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._take = self._redis.register_script(TAKE)

    async def close(self) -> None:
        await self._redis.aclose()

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        """Take the most tokens that the call can use, and give back what it did not.

        Raises ProviderError `teacher_rate_limited`, with nothing sent, while the provider's pause is too long to wait for it here.
        """
        call = attempts.call
        tokens = completions.most(self.provider, attempts.sent).tokens
        while seconds := await self._pause_s() or await self.wait_s(tokens):
            await call.unless_stopped(asyncio.sleep(seconds))
        attempts.begin()
        try:
            completion = await proceed(attempts)
        except ProviderError as failure:
            self.gate.refused(failure, attempts.began_at)
            if self.shared is not None and (failure.limited or failure.overloaded):
                await self.shared.pause(self.provider.name, self.gate.pause_s())
            raise
        self.gate.answered()
        if completion.cost is not None:
            await self.give_back(tokens - completion.cost.input_tokens - completion.cost.output_tokens)
        return completion

    async def _pause_s(self) -> float:
        """Of the provider's, whoever it told. Raises ProviderError where that is longer than calls wait here."""
        if self.shared is not None and (seconds := await self.shared.pause_s(self.provider.name)):
            self.gate.told(seconds)
        return self.gate.wait_s()

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
