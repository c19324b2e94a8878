"""Coalescing: equal requests in flight are one call.

Each call is an asyncio task of its own that any number of callers wait for. A sent attempt is finished and cached when its
callers disconnect; only a cancelled step aborts it.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Counter

from services.strong_model.gateway import completions
from services.strong_model.gateway.call import Answer, Call, Ticket, WaitingCaller
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from shared.contracts.errors import BatchPending, BudgetExceeded, Cancelled
from shared.contracts.json_types import Json
from shared.ledger.store import CallOrigin
from shared.platform.log import get_logger

log = get_logger(__name__)
EXPECTED = (ProviderError, BudgetExceeded, BatchPending, Cancelled)  # ends of a call that its callers are told of
JOINED = Counter("meteor_teacher_joined_total", "Requests that joined an equal one in flight")


class Coalescer:
    """The calls in flight, by project and request identity. answer: the chain below."""

    def __init__(self, answer: Callable[[Call], Awaitable[Answer]], providers: Mapping[str, Provider]):
        self._answer = answer
        self._providers = providers
        self._calls: dict[tuple[str, str], Call] = {}
        self._numbers = itertools.count()

    def open(
        self,
        provider: Provider,
        body: Json,
        origin: CallOrigin,
        client_id: str | None,
        stream: bool,
        sample: str | None = None,
    ) -> Ticket:
        """Join the equal request in flight, or begin one. No await may stand between looking and beginning."""
        number = next(self._numbers)
        identity = completions.identity(provider, body, origin.example_id, sample)
        digest = identity.key if identity else completions.request_hash(body)
        key = (origin.project_id, digest if identity else f"{digest}/{number}")
        caller = WaitingCaller(number, origin, client_id)
        call = self._calls.get(key)
        if call is not None and not call.stopped.is_set():
            JOINED.inc()
            call.join(caller)
            return Ticket(call, caller, first=False)
        providers = [provider, *(self._providers[name] for name in provider.fallback)]
        chunks = asyncio.Queue() if stream else None
        call = Call(providers, body, digest, origin, identity.former if identity else None, chunks=chunks)
        call.join(caller)
        self._calls[key] = call
        call.task = asyncio.create_task(self._run(call))
        call.task.add_done_callback(lambda task: self._ended(key, call, task))
        return Ticket(call, caller, first=True)

    def in_flight(self, project_id: str, identity: str) -> bool:
        return (project_id, identity) in self._calls

    async def cancel(self, step_id: str, client_id: str | None) -> int:
        """Abort the calls that only this step waits for; returns how many, once their rows are settled."""
        stopped = [call.task for call in list(self._calls.values()) if call.cancel(step_id, client_id)]
        if stopped:
            await asyncio.wait(stopped, timeout=2)
        return len(stopped)

    async def close(self, timeout_s: float) -> None:
        """Wait so long for the calls in flight, then cancel them."""
        tasks = [call.task for call in self._calls.values()]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=timeout_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _run(self, call: Call) -> Answer:
        return await self._answer(call)

    def _ended(self, key: tuple[str, str], call: Call, task: asyncio.Task[Answer]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
        if call.chunks is not None:
            call.chunks.put_nowait(None)
        error = None if task.cancelled() else task.exception()  # retrieved even when nobody waits any more
        if error is not None and not isinstance(error, EXPECTED):
            log.error("call failed unexpectedly", call_id=call.call_id, error=repr(error), exc_info=error)
