"""The cache: the ledger holds the answer to each repeatable request of a project that was paid for once."""

import asyncio
from collections.abc import Awaitable, Callable

from services.strong_model.gateway import completions, metrics
from services.strong_model.gateway.call import Answer, Call
from shared.contracts.json_types import Json
from shared.ledger.store import CallOrigin, Cost, Ledger


class Cache:
    """Answers are written by the ledger, in the transaction that settles their call. send: the chain below."""

    def __init__(self, ledger: Ledger, send: Callable[[Call], Awaitable[Json]]):
        self.ledger = ledger
        self._send = send

    async def __call__(self, call: Call) -> Answer:
        if call.repeatable:
            provider = call.providers[0]
            body = await asyncio.to_thread(
                self.ledger.kept,
                call.origin.project_id,
                call.request_hash,
                former=call.former_hash,
                provider=provider.name,
            )
            body = completions.usable(body, provider)
            if body is not None:
                completions.raise_if_refused(body)
                await self.note_cached(call, call.origin, body)
                return Answer(body, cached=True)
        return Answer(await self._send(call), cached=False)

    async def note_cached(self, call: Call, origin: CallOrigin, body: Json) -> None:
        """Record an answer that cost this caller nothing: it was cached, or another caller's call brought it."""
        provider = call.providers[0]
        metrics.CALLS.labels(provider.name, "cached").inc()
        saved = completions.cost(provider, body) or Cost()
        await asyncio.to_thread(
            self.ledger.note_cached, origin, provider.name, provider.model, call.request_hash, saved.usd
        )
