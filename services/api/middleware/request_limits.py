"""Requests per minute of each project, counted in Redis by all processes of the API together."""

import time
from collections import Counter

from starlette.concurrency import run_in_threadpool

from shared.contracts.errors import UserError
from shared.jobs.project_store import ProjectStore
from shared.platform.log import get_logger

log = get_logger(__name__)
CACHED_S = 1.0  # a changed limit takes effect within this time
MINUTE_S = 60
REDIS_TIMEOUT_S = 0.5
REDIS_RETRY_S = 5.0  # pause after Redis has failed


class TooManyRequests(UserError):
    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, limit: int, wait_s: int):
        super().__init__(f"the project's limit of {limit} requests per minute is used up; try again in {wait_s} s")
        self.retry_after_s = wait_s


class RequestLimits:
    """A count per project and minute of the clock. While Redis is unavailable each process counts its own requests."""

    def __init__(self, store: ProjectStore, redis_url: str, key_prefix: str):
        self._store = store
        self._redis_url = redis_url
        self._prefix = key_prefix
        self._limits: dict[str, tuple[int | None, float]] = {}
        self._counted: Counter[tuple[str, int]] = Counter()
        self._redis = None
        self._again_at = 0.0

    def forget(self, project: str) -> None:
        """The project's limit was changed."""
        self._limits.pop(project, None)

    async def check(self, project: str) -> None:
        """Count one request. Raises TooManyRequests."""
        limit, at = self._limits.get(project, (None, -CACHED_S))
        if time.monotonic() - at >= CACHED_S:
            limit = await run_in_threadpool(self._store.requests_per_minute, project)
            self._limits[project] = (limit, time.monotonic())
        if limit is None:
            return
        now = time.time()
        if await self._count(project, int(now // MINUTE_S)) > limit:
            raise TooManyRequests(limit, max(1, MINUTE_S - int(now % MINUTE_S)))

    async def _count(self, project: str, minute: int) -> int:
        """Requests of this minute, this one included."""
        if time.monotonic() >= self._again_at:
            from redis.exceptions import RedisError  # here: only projects with a limit need it

            try:
                return await self._count_together(f"{self._prefix}requests/{project}/{minute}")
            except RedisError as error:
                self._again_at = time.monotonic() + REDIS_RETRY_S
                log.warning("redis unavailable: this process counts its own requests", error=repr(error))
        for key in [key for key in self._counted if key[1] < minute]:
            del self._counted[key]
        self._counted[project, minute] += 1
        return self._counted[project, minute]

    async def _count_together(self, key: str) -> int:
        if self._redis is None:
            import redis.asyncio

            self._redis = redis.asyncio.from_url(
                self._redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
            )
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, 2 * MINUTE_S)
            count, _ = await pipeline.execute()
        return count

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
