"""The way of one call through the gateway: kept answer, call in flight, or ledger row, attempt, ledger row again.

Who asks and what is sent are apart: a request is an asyncio task of its own that any number of callers wait for. An attempt
that was sent is finished and kept when its callers go away; only a cancelled step aborts it. (One gateway per database: the
calls in flight are known to this process alone.)
"""

import asyncio
import contextlib
import itertools
import random
import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from services.strong_model import completions
from services.strong_model.clients import ProviderClient
from services.strong_model.failures import TeacherFailure
from services.strong_model.in_flight import Answer, Call, Caller, Ticket
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import BudgetExceeded, Cancelled
from shared.ledger.accounts import RoomHeld
from shared.ledger.store import CallOrigin, Cost, Ledger
from shared.platform.log import get_logger

log = get_logger(__name__)
CALLS = Counter("meteor_teacher_calls_total", "Attempts at strong models, cached answers too", ["provider", "outcome"])
TOKENS = Counter("meteor_teacher_tokens_total", "Tokens as providers counted them", ["provider", "direction"])
USD = Counter("meteor_teacher_usd_total", "Spent, by the configured prices", ["provider"])
LATENCY = Histogram(
    "meteor_teacher_latency_seconds", "One attempt", ["provider"], buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)
)
JOINED = Counter("meteor_teacher_joined_total", "Requests that joined an equal one in flight")
OPEN = Gauge("meteor_teacher_calls_open", "Attempts sent and not answered", ["provider"])
KEPT = ("ok", "cut_off")  # what the same request would give again
ROOM_S = 1.0  # how often a call that waits for a budget looks again where nobody tells it to


class Calls:
    """All calls of this gateway, by project and request."""

    def __init__(self, ledger: Ledger, clients: dict[str, ProviderClient], settings: StrongSettings):
        self.ledger = ledger
        self.clients = clients
        self.settings = settings
        self._room = {name: asyncio.Semaphore(settings.concurrency) for name in clients}
        self._open: dict[tuple[str, str], Call] = {}
        self._numbers = itertools.count()
        self._settled = asyncio.Event()  # replaced by a new one each time a call is settled

    def open(
        self, client: ProviderClient, body: dict[str, Any], origin: CallOrigin, client_id: str | None, stream: bool
    ) -> Ticket:
        """Join the same request in flight, or begin it. No await stands between looking and beginning."""
        digest = completions.request_hash(body)
        key = (origin.project_id, digest)
        caller = Caller(next(self._numbers), origin, client_id)
        call = self._open.get(key)
        first = call is None or call.stopped.is_set()
        if call is None or first:
            call = Call(client, body, digest, origin)
            call.chunks = asyncio.Queue() if stream else None
            call.join(caller)
            self._open[key] = call
            call.task = asyncio.create_task(self._run(call))
            call.task.add_done_callback(lambda task: self._ended(key, call, task))
        else:
            JOINED.inc()
            call.join(caller)
        return Ticket(call, caller, first)

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
        kept = await asyncio.to_thread(self.ledger.kept, call.origin.project_id, call.request_hash)
        if kept is None:
            return Answer(await self._send(call), kept=False)
        await self.note_cached(call, call.origin, kept)
        return Answer(kept, kept=True)

    async def _send(self, call: Call) -> dict[str, Any]:
        """Attempts until one succeeds, bounded by number and by a deadline that begins with the first one.

        An attempt that found nobody there cost nothing: such ones are bounded by METEOR_STRONG_PATIENCE instead, so that
        a local teacher has the time to start again.
        """
        room = self._room[call.client.provider.name]
        tries, attempts, started = 0, 0, 0.0
        while True:
            settled = self._settled
            await call.unless_stopped(room.acquire())
            try:
                now = time.monotonic()
                started = started or now
                deadline = started + self.settings.deadline.total_seconds()
                limit = min(self.settings.attempt_timeout.total_seconds(), max(deadline - now, 0.1))
                return await self._attempt(call, limit)
            except RoomHeld:
                pause = None
            except TeacherFailure as failure:
                tries += 1
                pause = self._pause(tries, failure)
                attempts += failure.connected
                too_often = failure.connected and attempts >= min(self.settings.attempts, failure.most_attempts)
                if not failure.connected:
                    deadline = min(deadline, started + self.settings.patience.total_seconds())
                if too_often or call.delivered or not call.waiting or time.monotonic() + pause >= deadline:
                    raise
                log.warning("trying again", call_id=call.call_id, code=failure.code, in_s=round(pause, 2))
            finally:
                room.release()
            await call.unless_stopped(_until(settled, ROOM_S) if pause is None else asyncio.sleep(pause))

    def _pause(self, tries: int, failure: TeacherFailure) -> float:
        """Seconds: what the provider asked for, and never less than a jittered, doubling pause of our own."""
        longest = min(
            self.settings.backoff.total_seconds() * 2 ** min(tries - 1, 20), self.settings.max_backoff.total_seconds()
        )
        own = longest * random.uniform(0.5, 1.0)  # noqa: S311
        return max(own, failure.retry_after or 0.0)

    async def _attempt(self, call: Call, limit_s: float) -> dict[str, Any]:
        """Intent committed, sent, settled. A stop between these ends in a settled row too.

        Raises RoomHeld or BudgetExceeded before anything is sent.
        """
        call.raise_if_stopped()
        client, provider = call.client, call.client.provider
        call.sent = True
        try:
            call.call_id = call_id = await asyncio.to_thread(
                self.ledger.begin,
                call.origin,
                provider.name,
                provider.model,
                call.request_hash,
                completions.most(provider, call.body),
            )
        except RoomHeld:
            call.sent = False
            if not call.waiting:
                call.stopped.set()
            raise
        started = time.monotonic()
        try:
            with OPEN.labels(provider.name).track_inprogress():
                on_chunk = call.take if call.chunks is not None else None
                body, whole = await call.unless_stopped(client.complete(call.body, call_id, limit_s, on_chunk))
        except Cancelled:
            await self._settle(provider.name, call_id, started, "cancelled", None)
            raise
        except TeacherFailure as failure:
            failure.call_id = call_id
            cost = Cost() if failure.free else None
            await self._settle(provider.name, call_id, started, failure.outcome, cost, error=failure.message)
            raise
        finally:
            call.sent = False
        body[completions.OWN] = {"call_id": call_id}
        outcome = completions.outcome(body)
        cost = completions.cost(provider, body)
        keep = body if whole and outcome in KEPT else None
        await self._settle(provider.name, call_id, started, outcome, cost, keep=keep)
        if cost is not None:
            TOKENS.labels(provider.name, "input").inc(cost.input_tokens)
            TOKENS.labels(provider.name, "output").inc(cost.output_tokens)
            USD.labels(provider.name).inc(cost.usd)
        return body

    async def _settle(
        self, provider: str, call_id: str, started: float, outcome: str, cost: Cost | None, **values: Any
    ) -> None:
        seconds = time.monotonic() - started
        CALLS.labels(provider, outcome).inc()
        LATENCY.labels(provider).observe(seconds)
        await asyncio.to_thread(self.ledger.settle, call_id, outcome, cost, latency_ms=seconds * 1000, **values)
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
