"""The way of one call through the gateway: kept answer, call in flight, or sent (sending.py).

Who asks and what is sent are apart: a request is an asyncio task of its own that any number of callers wait for. An attempt
that was sent is finished and kept when its callers go away; only a cancelled step aborts it. (One gateway per database: the
calls in flight are known to this process alone.)
"""

import asyncio
import itertools
from typing import Any

from prometheus_client import Counter

from services.strong_model.gateway import completions
from services.strong_model.gateway.call import Answer, Call, Ticket, WaitingCaller
from services.strong_model.gateway.chain import CALLS, Sender
from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import BudgetExceeded, Cancelled
from shared.ledger.store import CallOrigin, Cost, Ledger
from shared.platform.log import get_logger

log = get_logger(__name__)
JOINED = Counter("meteor_teacher_joined_total", "Requests that joined an equal one in flight")


class Calls:
    """All calls of this gateway, by project and request."""

    def __init__(self, ledger: Ledger, clients: dict[str, ProviderClient], settings: StrongSettings):
        self.ledger = ledger
        self.clients = clients
        self._sender = Sender(ledger, clients, settings)
        self._open: dict[tuple[str, str], Call] = {}
        self._numbers = itertools.count()

    def open(
        self,
        client: ProviderClient,
        body: dict[str, Any],
        origin: CallOrigin,
        client_id: str | None,
        stream: bool,
        sample: str | None = None,
    ) -> Ticket:
        """Join the same request in flight, or begin it. No await stands between looking and beginning."""
        number = next(self._numbers)
        found = completions.identity(body, origin.example_id, sample)
        digest = found or completions.request_hash(body)
        key = (origin.project_id, found or f"{digest}/{number}")
        caller = WaitingCaller(number, origin, client_id)
        call = self._open.get(key)
        first = call is None or call.stopped.is_set()
        if call is None or first:
            clients = [client, *(self.clients[name] for name in client.provider.fallback)]
            call = Call(clients, body, digest, origin, again=found is not None)
            call.chunks = asyncio.Queue() if stream else None
            call.join(caller)
            self._open[key] = call
            call.task = asyncio.create_task(self._run(call))
            call.task.add_done_callback(lambda task: self._ended(key, call, task))
        else:
            JOINED.inc()
            call.join(caller)
        return Ticket(call, caller, first)

    def in_flight(self, project_id: str, identity: str) -> bool:
        """Whether this request is being answered now."""
        return (project_id, identity) in self._open

    async def cancel(self, step_id: str, client_id: str | None) -> int:
        """Abort the calls that only this step waits for; returns how many, once their rows are settled."""
        stopped = [call.task for call in list(self._open.values()) if call.cancel(step_id, client_id)]
        if stopped:
            await asyncio.wait(stopped, timeout=2)
        return len(stopped)

    async def close(self, patience_s: float) -> None:
        """At the end of the process: wait a little for what was sent; the rest is found as unknown at the next start."""
        tasks = [call.task for call in self._open.values()]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=patience_s)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await self._sender.close()

    async def note_cached(self, call: Call, origin: CallOrigin, body: dict[str, Any]) -> None:
        """An answer that cost this caller nothing: it was kept, or another one's request had been sent already."""
        provider = call.client.provider
        CALLS.labels(provider.name, "cached").inc()
        saved = completions.cost(provider, body) or Cost()
        await asyncio.to_thread(
            self.ledger.note_cached, origin, provider.name, provider.model, call.request_hash, saved.usd
        )

    def _ended(self, key: tuple[str, str], call: Call, task: asyncio.Task[Answer]) -> None:
        if self._open.get(key) is call:
            del self._open[key]
        if call.chunks is not None:
            call.chunks.put_nowait(None)
        error = None if task.cancelled() else task.exception()  # fetched even when nobody waits any more
        if error is not None and not isinstance(error, TeacherFailure | BudgetExceeded | Cancelled):
            log.error("call failed unexpectedly", call_id=call.call_id, error=repr(error), exc_info=error)

    async def _run(self, call: Call) -> Answer:
        kept = None
        if call.again:
            kept = await asyncio.to_thread(self.ledger.kept, call.origin.project_id, call.request_hash)
        if kept is None:
            return Answer(await self._sender.send(call), kept=False)
        await self.note_cached(call, call.origin, kept)
        return Answer(kept, kept=True)
