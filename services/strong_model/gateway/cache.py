"""The cache: the ledger holds the answer to each repeatable request of a project that was paid for once.

A request that another gateway has sent is waited for. One that waits in a batch is taken out of it and sent; once the batch is complete
its answer comes with it, and the caller is to ask again later.
"""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from services.strong_model.gateway import completions, metrics
from services.strong_model.gateway.batch_progress import batch_progress
from services.strong_model.gateway.call import Answer, Call
from shared.contracts.errors import BatchPending
from shared.contracts.json_types import Json
from shared.ledger.batch_store import BatchStore
from shared.ledger.store import CallOrigin, Cost, InFlight, Ledger

LOOK_S = 0.25
WAITED = Counter("meteor_teacher_waited_total", "Requests that waited for an equal one of another gateway")


class Cache:
    """Answers are written by the ledger, in the transaction that settles their call. send: the chain below. batch_poll_s: when a batch
    is asked for again."""

    def __init__(self, ledger: Ledger, send: Callable[[Call], Awaitable[Json]], batch_poll_s: float):
        self.ledger = ledger
        self._batches = BatchStore(ledger)
        self._batch_poll_s = batch_poll_s
        self._send = send

    async def __call__(self, call: Call) -> Answer:
        """Raises BatchPending where a batch that may have been sent has the request."""
        while True:
            if call.repeatable and (kept := await self._kept(call)) is not None:
                completions.raise_if_refused(kept)
                await self.note_cached(call, call.origin, kept)
                return Answer(kept, cached=True)
            try:
                return Answer(await self._send(call), cached=False)
            except InFlight:
                await self._not_in_batch(call)
                WAITED.inc()
                await call.unless_stopped(self._landed(call))

    async def _kept(self, call: Call) -> Json | None:
        provider = call.providers[0]
        kept = await asyncio.to_thread(
            self.ledger.kept,
            call.origin.project_id,
            call.request_hash,
            former=call.former_hash,
            provider=provider.name,
        )
        if kept is None:
            return None
        answer = completions.usable(kept.response, provider)
        if answer is None:
            call.passed_over.add(kept.call_id)
        return answer

    async def _not_in_batch(self, call: Call) -> None:
        batch = await asyncio.to_thread(self._batches.take_out, call.origin.project_id, call.request_hash)
        if batch is not None:
            way_out = f"cancel job {batch.job_id} to have it sent by itself"
            message = f"an equal request waits in a batch: {batch_progress(batch)}; {way_out}"
            raise BatchPending(message, again_in_s=self._batch_poll_s)

    async def _landed(self, call: Call) -> None:
        """Until no gateway has the request on its way. One that was killed loses it with its lease."""
        flies = True
        while flies:
            await asyncio.sleep(LOOK_S)
            flies = await asyncio.to_thread(self.ledger.flies, call.origin.project_id, call.request_hash)

    async def note_cached(self, call: Call, origin: CallOrigin, body: Json) -> None:
        """Record an answer that cost this caller nothing: it was cached, or another caller's call brought it."""
        provider = call.providers[0]
        metrics.CALLS.labels(provider.name, "cached").inc()
        saved = completions.cost(provider, body) or Cost()
        await asyncio.to_thread(
            self.ledger.note_cached, origin, provider.name, provider.model, call.request_hash, saved.usd
        )
