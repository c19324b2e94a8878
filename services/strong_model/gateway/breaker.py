"""The circuit breaker: after too many failures in a row a provider gets one probe per pause, until one succeeds."""

import asyncio
import contextlib
import time

from prometheus_client import Gauge

from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import BreakerOpen, ProviderError
from services.strong_model.gateway.shared_state import SharedState
from services.strong_model.settings import StrongSettings

OPEN = Gauge("meteor_teacher_breaker_open", "1 while a provider gets nothing but probes", ["provider"])


class Breaker:
    """Counts the failures in a row that say that the provider is down. shared: those of all gateways; None: this one is alone."""

    def __init__(self, name: str, settings: StrongSettings, shared: SharedState | None = None):
        self.name, self.shared = name, shared
        self.most_failures = settings.breaker_failures
        self.pause_s = settings.breaker_pause.total_seconds()
        self.cause: ProviderError | None = None  # the latest of the failures in a row
        self._in_a_row = 0
        self._warned = False  # by other gateways
        self._until = 0.0
        self._closed = asyncio.Event()  # replaced when the breaker opens
        self._gauge = OPEN.labels(name)
        self._gauge.set(0)

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        """Raises BreakerOpen where a fallback can be asked, or the provider stayed unavailable for too long."""
        while seconds := self.wait_s() or await self._wait_for_others_s():
            if not attempts.last or time.monotonic() + seconds >= attempts.unavailable_deadline:
                raise BreakerOpen(attempts.provider, seconds, self.cause)
            await attempts.call.unless_stopped(self.closed(seconds))
        try:
            completion = await proceed(attempts)
        except ProviderError as failure:
            if failure.provider_down:
                self.note(failure)
                if self.shared is not None:
                    await self.shared.failed(self.name, self.most_failures, self.pause_s)
            raise
        if self.shared is not None and (self.cause is not None or self._warned):
            self._warned = False
            await self.shared.answered(self.name)
        self.note(None)
        return completion

    async def _wait_for_others_s(self) -> float:
        """As wait_s, by the failures that other gateways met too."""
        if self.shared is None:
            return 0.0
        seconds = await self.shared.may_pass(self.name, self.most_failures, self.pause_s)
        self._warned = self._warned or seconds > 0
        return seconds

    @property
    def open(self) -> bool:
        return self._in_a_row >= self.most_failures

    def wait_s(self) -> float:
        """Seconds until an attempt may pass. 0 from an open breaker makes the caller's attempt the probe."""
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

    def note(self, failure: ProviderError | None) -> None:
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
