"""Sending one request: to its provider, else to those that stand in for it, in attempts that are ledger rows each.

Before an attempt: the breaker lets it, the room has a place, the pace has its tokens, the budgets have what it may cost.
"""

import asyncio
import contextlib
import random
import time
from typing import Any

import stamina
from prometheus_client import Counter, Gauge, Histogram

from services.strong_model.gateway import completions, errors
from services.strong_model.gateway.call import Call
from services.strong_model.gateway.concurrency import Gate
from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.gateway.rate_limit import Pace
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import Cancelled
from shared.db.engine import UNAVAILABLE
from shared.ledger.accounts import RoomHeld
from shared.ledger.store import Cost, Ledger
from shared.platform.log import get_logger
from shared.platform.settings import platform_settings

log = get_logger(__name__)
CALLS = Counter("meteor_teacher_calls_total", "Attempts at strong models, cached answers too", ["provider", "outcome"])
TOKENS = Counter("meteor_teacher_tokens_total", "Tokens as providers counted them", ["provider", "direction"])
USD = Counter("meteor_teacher_usd_total", "Spent, by the configured prices", ["provider"])
LATENCY = Histogram(
    "meteor_teacher_latency_seconds", "One attempt", ["provider"], buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)
)
OPEN = Gauge("meteor_teacher_calls_open", "Attempts sent and not answered", ["provider"])
FAILED_OVER = Counter("meteor_teacher_failovers_total", "Requests passed on to a fallback", ["provider"])
STRUCTURED = Counter(
    "meteor_teacher_structured_total",
    "Answers to requests with a JSON schema, by whether they met it",
    ["provider", "met"],
)
KEPT = ("ok", "cut_off")  # what the same request would give again
ROOM_S = 1.0  # how often a call that waits for a budget looks again where nobody tells it to


class Sender:
    def __init__(self, ledger: Ledger, clients: dict[str, ProviderClient], settings: StrongSettings):
        self.ledger = ledger
        self.settings = settings
        platform = platform_settings()
        self._gates = {
            name: Gate(name, client.provider.concurrent or settings.concurrency, settings)
            for name, client in clients.items()
        }
        self._paces = {
            name: Pace(client.provider, platform.redis_url, platform.key_prefix) for name, client in clients.items()
        }
        self._settled = asyncio.Event()  # replaced by a new one each time a call is settled

    async def close(self) -> None:
        for pace in self._paces.values():
            await pace.close()

    async def send(self, call: Call) -> dict[str, Any]:
        """The answer of the first provider that gives one. Raises TeacherFailure, BudgetExceeded, Cancelled."""
        clients = [call.client, *call.others]
        for client in clients[:-1]:
            try:
                return await self._to(client, call, last=False)
            except TeacherFailure as failure:
                if not failure.elsewhere or call.delivered or not call.waiting:
                    raise
                FAILED_OVER.labels(client.provider.name).inc()
                log.warning("another provider is asked", failed=client.provider.name, code=failure.code)
        return await self._to(clients[-1], call, last=True)

    async def _to(self, client: ProviderClient, call: Call, last: bool) -> dict[str, Any]:
        """Attempts until one succeeds, bounded by number and by a deadline that begins with the first one.

        An attempt that found nobody there cost nothing: such ones are bounded by METEOR_STRONG_PATIENCE instead, so that
        a local teacher has the time to start again. last: nobody else can be asked, so it is worth waiting.
        """
        gate = self._gates[client.provider.name]
        tries, attempts, started = 0, 0, 0.0
        latest: TeacherFailure | None = None
        while True:
            settled = self._settled
            now = time.monotonic()
            started = started or now
            deadline = started + self.settings.deadline.total_seconds()
            if rest := gate.breaker.wait_s():
                if not last or now + rest >= started + self.settings.patience.total_seconds() or now + rest >= deadline:
                    raise latest or errors.resting(client.provider, rest, gate.breaker.cause)
                await call.unless_stopped(gate.breaker.closed(rest))
                continue
            await call.unless_stopped(gate.room.enter())
            generation = gate.room.generation
            try:
                taken = await self._keep_pace(client, call, gate)
                generation = gate.room.generation
                if not attempts and not tries:
                    started = time.monotonic()  # to wait for a place is no attempt
                    deadline = started + self.settings.deadline.total_seconds()
                limit = min(self.settings.attempt_timeout.total_seconds(), max(deadline - time.monotonic(), 0.1))
                body = await self._attempt(client, call, limit, taken)
                gate.note(generation, None)
                return body
            except RoomHeld:
                pause = None
            except TeacherFailure as failure:
                gate.note(generation, failure)
                latest, tries = failure, tries + 1
                pause = self._pause(tries, failure)
                attempts += failure.connected or not last
                too_often = attempts >= min(self.settings.attempts, failure.most_attempts)
                if not failure.connected:
                    deadline = min(deadline, started + self.settings.patience.total_seconds())
                if too_often or call.delivered or not call.waiting or time.monotonic() + pause >= deadline:
                    raise
                log.warning("trying again", call_id=call.call_id, code=failure.code, in_s=round(pause, 2))
            finally:
                gate.room.leave()
            await call.unless_stopped(_until(settled, ROOM_S) if pause is None else asyncio.sleep(pause))

    def _pause(self, tries: int, failure: TeacherFailure) -> float:
        """Seconds: what the provider asked for, and never less than a jittered, doubling pause of our own."""
        longest = min(
            self.settings.backoff.total_seconds() * 2 ** min(tries - 1, 20), self.settings.max_backoff.total_seconds()
        )
        own = longest * random.uniform(0.5, 1.0)  # noqa: S311
        return max(own, failure.retry_after or 0.0)

    async def _keep_pace(self, client: ProviderClient, call: Call, gate: Gate) -> int:
        """Wait until the provider's limits let this request pass; returns the tokens that were taken for it."""
        pace = self._paces[client.provider.name]
        tokens = completions.most(client.provider, call.body).tokens
        while wait := gate.wait_s() or await pace.wait_s(tokens):
            await call.unless_stopped(asyncio.sleep(wait))
        return tokens

    async def _attempt(self, client: ProviderClient, call: Call, limit_s: float, taken: int) -> dict[str, Any]:
        """Intent committed, sent, settled. A stop between these ends in a settled row too.

        Raises RoomHeld or BudgetExceeded before anything is sent.
        """
        call.raise_if_stopped()
        provider, body_sent = client.provider, completions.sent_to(client.provider, call.body)
        call.call_id = call_id = await self._begin(client, call)
        started = time.monotonic()
        try:
            with OPEN.labels(provider.name).track_inprogress():
                on_chunk = call.take if call.chunks is not None else None
                body, whole = await call.unless_stopped(client.complete(body_sent, call_id, limit_s, on_chunk))
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
        body[completions.OWN] = {"call_id": call_id, "provider": provider.name}
        outcome, cost = completions.outcome(body), completions.cost(provider, body)
        keep = body if whole and call.again and outcome in KEPT else None
        await self._settle(provider.name, call_id, started, outcome, cost, keep=keep)
        if completions.wants_schema(call.body):
            STRUCTURED.labels(provider.name, str(completions.meets_schema(call.body, body)).lower()).inc()
        if cost is not None:
            TOKENS.labels(provider.name, "input").inc(cost.input_tokens)
            TOKENS.labels(provider.name, "output").inc(cost.output_tokens)
            USD.labels(provider.name).inc(cost.usd)
            await self._paces[provider.name].give_back(taken - cost.input_tokens - cost.output_tokens)
        return body

    async def _begin(self, client: ProviderClient, call: Call) -> str:
        provider, call.sent = client.provider, True
        most = completions.most(provider, call.body)
        try:
            return await asyncio.to_thread(
                self.ledger.begin, call.origin, provider.name, provider.model, call.request_hash, most
            )
        except RoomHeld:
            call.sent = False
            if not call.waiting:
                call.stopped.set()
            raise

    async def _settle(
        self, provider: str, call_id: str, started: float, outcome: str, cost: Cost | None, **values: Any
    ) -> None:
        seconds = time.monotonic() - started
        CALLS.labels(provider, outcome).inc()
        LATENCY.labels(provider).observe(seconds)
        patience = self.settings.patience.total_seconds()  # an answer that came while the database is away is not lost
        async for attempt in stamina.retry_context(on=UNAVAILABLE, attempts=None, timeout=patience):
            with attempt:
                await asyncio.to_thread(self.ledger.settle, call_id, outcome, cost, latency_ms=seconds * 1000, **values)
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 loses a cancel that comes with the event
            await event.wait()
