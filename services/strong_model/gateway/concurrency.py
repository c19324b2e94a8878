"""The concurrency limiter: as many calls at once as a provider bears.

A refusal for too many calls halves the limit, a whole round of successes adds one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.shared_state import SharedState

LIMIT = Gauge("meteor_teacher_concurrency", "Calls at once that a provider gets now", ["provider"])


class ConcurrencyLimiter:
    """A semaphore whose limit moves between 1 and `most`. shared: counts the calls of all gateways; None: this one is alone."""

    def __init__(self, name: str, most: int, shared: SharedState | None = None):
        self.name, self.shared = name, shared
        self.most = most
        self.limit = float(most)
        self.in_use = 0
        self._lowered_at = 0.0  # monotonic seconds
        self._successes = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._gauge = LIMIT.labels(name)
        self._gauge.set(most)

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        await attempts.call.unless_stopped(self.acquire())
        try:
            async with self._slot_of_all(attempts):
                return await self._noted(attempts, proceed)
        finally:
            self.release()

    async def _noted(self, attempts: Attempts, proceed: Send) -> Completion:
        before = self.limit
        try:
            completion = await proceed(attempts)
            self.note(attempts.began_at, overloaded=False)
            return completion
        except ProviderError as failure:
            if failure.overloaded:
                self.note(attempts.began_at, overloaded=True)
            raise
        finally:
            if self.shared is not None and int(self.limit) != int(before):
                await self.shared.set_limit(self.name, int(self.limit))

    @asynccontextmanager
    async def _slot_of_all(self, attempts: Attempts) -> AsyncGenerator[None]:
        if self.shared is None:
            yield
            return
        slot = await attempts.call.unless_stopped(self.shared.acquire(self.name, self.most))
        try:
            yield
        finally:
            await asyncio.shield(self.shared.release(self.name, slot))

    async def acquire(self) -> None:
        """Wait for a slot, first come first served."""
        if self._queue or self.in_use >= int(self.limit):
            slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(slot)
            try:
                await slot
            except asyncio.CancelledError:
                if slot.done() and not slot.cancelled():
                    self.release()
                raise
        else:
            self.in_use += 1

    def release(self) -> None:
        self.in_use -= 1
        self._admit()

    def note(self, began_at: float, overloaded: bool) -> None:
        """An attempt that began then was answered, or refused for too many."""
        if overloaded:
            if began_at > self._lowered_at:  # one burst of refusals lowers the limit once
                self._lowered_at = time.monotonic()
                self._set_limit(max(1.0, self.limit / 2))
        elif self.limit < self.most and self.in_use >= int(self.limit):  # a success below the limit proves nothing
            self._successes += 1
            if self._successes >= self.limit:
                self._set_limit(min(self.most, self.limit + 1))
                self._admit()

    def _admit(self) -> None:
        while self._queue and self.in_use < int(self.limit):
            slot = self._queue.popleft()
            if not slot.done():
                self.in_use += 1
                slot.set_result(None)

    def _set_limit(self, limit: float) -> None:
        self.limit, self._successes = limit, 0
        self._gauge.set(int(limit))
