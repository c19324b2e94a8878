"""How many calls a provider gets at once, and whether it gets any.

Room: as many calls as the provider bears. A refusal for too many halves their number, a whole round of successes adds
one, and during a given `retry-after` (METEOR_STRONG_MAX_BACKOFF at most) nothing is sent at all. Breaker: after so many failures in a row nothing is sent but
one probe per pause, until one succeeds.
"""

import asyncio
import contextlib
import time
from collections import deque

from prometheus_client import Gauge

from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.settings import StrongSettings

LIMIT = Gauge("meteor_teacher_concurrency", "Calls at once that a provider gets now", ["provider"])
BROKEN = Gauge("meteor_teacher_breaker_open", "1 while a provider gets nothing but probes", ["provider"])
OVERLOAD = frozenset({"http_429", "http_503", "http_529"})


class Room:
    """A semaphore whose size follows what the provider bears."""

    def __init__(self, name: str, most: int):
        self.most = most
        self.limit = float(most)
        self.open = 0
        self.generation = 0  # raised by each cut: calls sent before it do not cut again
        self._successes = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._gauge = LIMIT.labels(name)
        self._gauge.set(most)

    async def enter(self) -> None:
        """Wait for a place, first come first served. Pair it with `leave`."""
        if self._queue or self.open >= int(self.limit):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.leave()
                raise
        else:
            self.open += 1

    def leave(self) -> None:
        self.open -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queue and self.open < int(self.limit):
            place = self._queue.popleft()
            if not place.done():
                self.open += 1
                place.set_result(None)

    def note(self, generation: int, overloaded: bool) -> None:
        """One call of that generation was answered, or refused for too many."""
        if overloaded:
            if generation == self.generation:
                self.generation += 1
                self._size(max(1.0, self.limit / 2))
        elif self.limit < self.most and self.open >= int(self.limit):  # else it did not show that more would do
            self._successes += 1
            if self._successes >= self.limit:
                self._size(min(self.most, self.limit + 1))
                self._admit()

    def _size(self, limit: float) -> None:
        self.limit, self._successes = limit, 0
        self._gauge.set(int(limit))


class Breaker:
    """Counts failures in a row. Open: `wait_s` lets one probe pass per pause."""

    def __init__(self, name: str, failures: int, pause_s: float):
        self.failures = failures
        self.pause_s = pause_s
        self.cause: TeacherFailure | None = None  # the latest of the failures in a row
        self._in_a_row = 0
        self._until = 0.0
        self._closed = asyncio.Event()  # replaced when it opens
        self._gauge = BROKEN.labels(name)
        self._gauge.set(0)

    @property
    def open(self) -> bool:
        return self._in_a_row >= self.failures

    def wait_s(self) -> float:
        """0: send; while it is open that makes the sender the probe."""
        if not self.open:
            return 0.0
        now = time.monotonic()
        if now < self._until:
            return self._until - now
        self._until = now + self.pause_s
        return 0.0

    async def closed(self, seconds: float) -> None:
        """Wait so long, or less where a probe succeeds before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def note(self, failure: TeacherFailure | None) -> None:
        self.cause = failure
        if failure is not None:
            self._in_a_row += 1
            if self.open:
                self._until = time.monotonic() + self.pause_s
                self._gauge.set(1)
                if self._closed.is_set():
                    self._closed = asyncio.Event()
        else:
            self._in_a_row = 0
            self._gauge.set(0)
            self._closed.set()


class Gate:
    """Room and breaker of one provider, fed by how its calls end."""

    def __init__(self, name: str, concurrent: int, settings: StrongSettings):
        self.room = Room(name, concurrent)
        self.breaker = Breaker(name, settings.breaker_failures, settings.breaker_pause.total_seconds())
        self.longest_s = settings.max_backoff.total_seconds()
        self._not_before = 0.0

    def wait_s(self) -> float:
        """Seconds until the provider wants to be asked again."""
        return max(0.0, self._not_before - time.monotonic())

    def note(self, generation: int, failure: TeacherFailure | None) -> None:
        outcome = failure.outcome if failure else "ok"
        overloaded = outcome in OVERLOAD
        if failure is None or overloaded:
            self.room.note(generation, overloaded)
        if overloaded and failure is not None and failure.retry_after:
            pause = min(failure.retry_after, self.longest_s)  # a longer one binds the request that was told of it
            self._not_before = max(self._not_before, time.monotonic() + pause)
        if failure is None or failure.provider_down:
            self.breaker.note(failure)
