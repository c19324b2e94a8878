"""The cache: the ledger holds the answer to each repeatable request of a project that was paid for once."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import Counter

from services.strong_model.gateway import completions, metrics
from services.strong_model.gateway.call import Answer, Call
from shared.contracts.json_types import Json
from shared.ledger.store import CallOrigin, Cost, InFlight, Ledger

LOOK_S = 0.25
WAITED = Counter("meteor_teacher_waited_total", "Requests that waited for an equal one of another gateway")


class Cache:
    """Answers are written by the ledger, in the transaction that settles their call. send: the chain below."""

    def __init__(self, ledger: Ledger, send: Callable[[Call], Awaitable[Json]]):
        self.ledger = ledger
        self._send = send

    async def __call__(self, call: Call) -> Answer:
        """An equal request that another gateway has sent is waited for, as the coalescer does inside this one."""
        while True:
            if call.repeatable and (kept := await self._kept(call)) is not None:
                completions.raise_if_refused(kept)
                await self.note_cached(call, call.origin, kept)
                return Answer(kept, cached=True)
            try:
                return Answer(await self._send(call), cached=False)
            except InFlight:
                WAITED.inc()
                await call.unless_stopped(self._landed(call))

    async def _kept(self, call: Call) -> Json | None:
        provider = call.providers[0]
        body = await asyncio.to_thread(
            self.ledger.kept,
            call.origin.project_id,
            call.request_hash,
            former=call.former_hash,
            provider=provider.name,
        )
        answer = completions.usable(body, provider)
        call.outdated = body is not None and answer is None
        return answer

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
