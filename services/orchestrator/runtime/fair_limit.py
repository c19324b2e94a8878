"""How many steps of one job may stand in a queue at once."""

import asyncio
import contextlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable

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
    """At most twice as many steps of one job in a queue as the queue has consumers; the others wait in line.

    So a job of 10,000 questions cannot fill a queue before one of 50, and a waiting step can be told from a lost one. A step
    that rests until a batch has come gives up its place, so that one batch can hold more than a few steps' requests. Only the
    first in line is woken: if a free place woke all, a job's time would grow with the square of its steps.
    """

    def __init__(self, consumers: Callable[[Queue], Awaitable[int]]):
        self._consumers = consumers
        self._held: Counter[Queue] = Counter()
        self._line: defaultdict[Queue, OrderedDict[asyncio.Event, None]] = defaultdict(OrderedDict)

    @contextlib.asynccontextmanager
    async def place(self, queue: Queue) -> AsyncGenerator[Place]:
        await self._enter(queue)
        place = Place(lambda: self._leave(queue))
        try:
            yield place
        finally:
            place.leave()

    async def _enter(self, queue: Queue) -> None:
        line, turn = self._line[queue], asyncio.Event()
        line[turn] = None
        self._wake(queue)
        try:
            await turn.wait()
            while self._held[queue] >= 2 * await self._consumers(queue):
                turn.clear()
                with contextlib.suppress(TimeoutError):  # there may be more consumers by then
                    async with asyncio.timeout(WORKERS_AGE_S):
                        await turn.wait()
            self._held[queue] += 1
        finally:
            del line[turn]
            self._wake(queue)

    def _leave(self, queue: Queue) -> None:
        self._held[queue] -= 1
        self._wake(queue)

    def _wake(self, queue: Queue) -> None:
        """The first in line looks whether there is a place."""
        if line := self._line[queue]:
            next(iter(line)).set()
