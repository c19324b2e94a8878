"""The budget: what an attempt may cost is reserved in the ledger before it is sent, and settled after it."""

import asyncio
import contextlib
import time

import stamina

from services.strong_model.gateway import completions, metrics
from services.strong_model.gateway.call import Attempts, Send
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.errors import ProviderError
from shared.contracts.errors import Cancelled
from shared.contracts.json_types import Json
from shared.db.engine import UNAVAILABLE
from shared.ledger.accounts import RoomHeld
from shared.ledger.store import Cost, InFlight, Ledger

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
    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self._settled = asyncio.Event()  # replaced by a new one each time a call is settled
        self._unwritten: set[str] = set()  # ended calls whose rows could not be written yet
        self._written = asyncio.Event()  # set while there is none
        self._written.set()

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        """The intent row is committed, the request sent, the row settled, also when the call is stopped meanwhile.

        Raises BudgetHeld, BudgetExceeded or InFlight before anything is sent.
        """
        call, provider = attempts.call, attempts.provider.name
        await call.unless_stopped(self._all_written())
        call.raise_if_stopped()
        call.call_id = call_id = await self._reserve(attempts)
        call.passed_over.add(call_id)
        started = time.monotonic()
        try:
            completion = await proceed(attempts)
            call.ended = True
            keep = completion.body if completion.cacheable and call.repeatable else None
            await self._settle(provider, call_id, started, completion.outcome, completion.cost, keep=keep)
            return completion
        except Cancelled:
            await self._settle(provider, call_id, started, "cancelled", None)
            raise
        except ProviderError as failure:
            call.ended = True
            failure.call_id = call_id
            keep = completions.kept_refusal(failure, attempts.provider) if call.repeatable else None
            await self._settle(
                provider, call_id, started, failure.outcome, failure.cost, error=failure.message, keep=keep
            )
            raise
        finally:
            call.sent = call.ended = False

    async def _all_written(self) -> None:
        """Nothing is sent while the end of an earlier call could not be written: its answer would have no place either."""
        while self._unwritten:
            await self._written.wait()

    async def _reserve(self, attempts: Attempts) -> str:
        call, provider, settled = attempts.call, attempts.provider, self._settled
        call.sent = True
        most = completions.most(provider, attempts.sent)
        try:
            return await asyncio.to_thread(
                self.ledger.begin,
                call.origin,
                provider.name,
                provider.model,
                call.request_hash,
                most,
                call.repeatable,
                tuple(call.passed_over),
            )
        except InFlight:
            call.sent = False
            call.stop_if_abandoned()
            raise
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
        """While the database is unavailable, or its disk full, the answer is kept here and the write tried again for as long as
        the process lives: what was paid for must not be lost."""
        seconds = time.monotonic() - started
        metrics.CALLS.labels(provider, outcome).inc()
        metrics.LATENCY.labels(provider).observe(seconds)
        try:
            async for attempt in stamina.retry_context(on=UNAVAILABLE, attempts=None, timeout=None):
                with attempt:
                    if attempt.num > 1:
                        self._hold_back(call_id)
                    await asyncio.to_thread(
                        self.ledger.settle, call_id, outcome, cost, latency_ms=seconds * 1000, error=error, keep=keep
                    )
        finally:
            self._let_go(call_id)
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()

    def _hold_back(self, call_id: str) -> None:
        if not self._unwritten:
            self._written.clear()
        self._unwritten.add(call_id)

    def _let_go(self, call_id: str) -> None:
        self._unwritten.discard(call_id)
        if not self._unwritten:
            self._written.set()
