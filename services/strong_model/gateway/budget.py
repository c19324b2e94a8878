"""The budget: what an attempt may cost is reserved in the ledger before it is sent, and settled after it."""

import asyncio
import contextlib
import time

import stamina

from services.strong_model.gateway import completions, metrics
from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import Cancelled
from shared.contracts.json_types import Json
from shared.db.engine import UNAVAILABLE
from shared.ledger.accounts import RoomHeld
from shared.ledger.store import Cost, Ledger

RECHECK_S = 1.0  # how often a call that waits for a budget looks again without a hint


class BudgetHeld(Exception):
    """Other calls hold the rest of the budget. settled: set when one of them has ended."""

    def __init__(self, settled: asyncio.Event):
        super().__init__("the budget is held by calls on their way")
        self.settled = settled

    async def wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECHECK_S):  # wait_for of Python 3.11 loses a cancel that comes with the event
                await self.settled.wait()


class BudgetStage:
    def __init__(self, ledger: Ledger, settings: StrongSettings):
        self.ledger = ledger
        self._database_timeout_s = settings.unavailable_timeout.total_seconds()
        self._settled = asyncio.Event()  # replaced by a new one each time a call is settled

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        """The intent row is committed, the request sent, the row settled, also when the call is stopped meanwhile.

        Raises BudgetHeld or BudgetExceeded before anything is sent.
        """
        call, provider = attempts.call, attempts.provider.name
        call.raise_if_stopped()
        call.call_id = call_id = await self._reserve(attempts)
        started = time.monotonic()
        try:
            completion = await proceed(attempts)
        except Cancelled:
            await self._settle(provider, call_id, started, "cancelled", None)
            raise
        except ProviderError as failure:
            failure.call_id = call_id
            await self._settle(provider, call_id, started, failure.outcome, failure.cost, error=failure.message)
            raise
        finally:
            call.sent = False
        keep = completion.body if completion.cacheable and call.repeatable else None
        await self._settle(provider, call_id, started, completion.outcome, completion.cost, keep=keep)
        return completion

    async def _reserve(self, attempts: Attempts) -> str:
        call, provider, settled = attempts.call, attempts.provider, self._settled
        call.sent = True
        most = completions.most(provider, attempts.sent)
        try:
            return await asyncio.to_thread(
                self.ledger.begin, call.origin, provider.name, provider.model, call.request_hash, most
            )
        except RoomHeld:
            call.sent = False
            call.stop_if_abandoned()
            raise BudgetHeld(settled) from None

    async def _settle(
        self,
        provider: str,
        call_id: str,
        started: float,
        outcome: str,
        cost: Cost | None,
        error: str | None = None,
        keep: Json | None = None,
    ) -> None:
        """While the database is unavailable the write is tried again: a paid answer must not be lost."""
        seconds = time.monotonic() - started
        metrics.CALLS.labels(provider, outcome).inc()
        metrics.LATENCY.labels(provider).observe(seconds)
        async for attempt in stamina.retry_context(on=UNAVAILABLE, attempts=None, timeout=self._database_timeout_s):
            with attempt:
                await asyncio.to_thread(
                    self.ledger.settle, call_id, outcome, cost, latency_ms=seconds * 1000, error=error, keep=keep
                )
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()
