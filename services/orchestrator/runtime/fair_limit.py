"""How many steps of one job may stand in a queue at once."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

from shared.contracts.steps import Queue

WORKERS_AGE_S = 5.0  # how long a count of consumers is used


class Place:
    """One step's place in a queue, which it may leave before it has ended."""

    def __init__(self, free: Callable[[], None]):
        self._free: Callable[[], None] | None = free

    def leave(self) -> None:
        if self._free is not None:
            self._free()
            self._free = None


class FairLimit:
    """At most twice as many steps of one job in a queue as the queue has consumers.

    So a job of 10,000 questions cannot fill a queue before one of 50, and a waiting step can be told from a lost one. A step
    that rests until a batch has come gives up its place, so that one batch can hold more than a few steps' requests.
    """

    def __init__(self, consumers: Callable[[Queue], Awaitable[int]]):
        self._consumers = consumers
        self._held: Counter[Queue] = Counter()
        self._freed: defaultdict[Queue, asyncio.Event] = defaultdict(asyncio.Event)

    @contextlib.asynccontextmanager
    async def place(self, queue: Queue) -> AsyncIterator[Place]:
        freed = self._freed[queue]
        while True:
            most = 2 * await self._consumers(queue)
            if self._held[queue] < most:  # read after the await: another step may have taken a place meanwhile
                break
            freed.clear()
            with contextlib.suppress(TimeoutError):  # there may be more consumers by then
                async with asyncio.timeout(WORKERS_AGE_S):
                    await freed.wait()
        self._held[queue] += 1
        place = Place(lambda: self._leave(queue))
        try:
            yield place
        finally:
            place.leave()

    def _leave(self, queue: Queue) -> None:
        self._held[queue] -= 1
        self._freed[queue].set()
