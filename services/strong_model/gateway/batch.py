"""Batches: calls that may wait are collected, sent through the provider's batch API for less money, and fetched later.

Callers do not wait: they get BatchPending, ask again later and find the answer then. All state is in the ledger's tables
(shared/ledger/batch_store.py), so a gateway that was killed continues where it was. Before a batch is created a second time,
the provider's own list is searched for the first.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from services.strong_model.gateway import completions, errors, metrics
from services.strong_model.gateway.adapt import Rule
from services.strong_model.gateway.batch_client import TIMEOUT_S, BatchClient, line_of
from services.strong_model.gateway.batch_files import BatchFiles
from services.strong_model.gateway.batch_progress import batch_progress
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.completions import Completion, Identity
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import BatchPending
from shared.contracts.json_types import Json
from shared.db.engine import UNAVAILABLE
from shared.ledger.accounts import RoomHeld
from shared.ledger.batch_store import NOTHING, BatchedRequest, BatchStore
from shared.ledger.records import BatchRecord
from shared.ledger.store import CallOrigin, InFlight
from shared.platform.log import get_logger

log = get_logger(__name__)
TICK_S = 1.0
CREATE_S = TIMEOUT_S + 5.0  # after that a try to create a batch has ended, whoever made it
END_S = 600.0  # after that all calls of a batch that was not sent are settled
UNAVAILABLE_S = 10.0  # until the provider is asked again after an error
QUEUE_FULL = frozenset({"token_limit_exceeded"})  # codes of a provider whose queue is full: it takes the batch later
QUEUE_FULL_S = 300.0
FAILED = "batch_failed"  # outcome of the calls of a batch that the provider refused
ENDED = frozenset({"completed", "expired", "cancelled"})
FILES = ("output_file_id", "error_file_id")

JobIsOver = Callable[[str], bool]


class Batches:
    """All batches. job_is_over: whether the job of this id was cancelled or has failed. leads: whether this gateway sends and fetches
    them; any gateway collects requests."""

    def __init__(
        self,
        gateway: Gateway,
        settings: StrongSettings,
        job_is_over: JobIsOver,
        leads: Callable[[], bool] = lambda: True,
    ):
        self._leads = leads
        self.ledger = gateway.ledger
        self.store = BatchStore(gateway.ledger)
        self.settings = settings
        self.poll_s = settings.batch_poll.total_seconds()
        self._files = BatchFiles(self.store, self.poll_s)
        self._calls = gateway.calls
        self._negotiations = gateway.negotiations
        self._clients = {name: BatchClient(provider, settings) for name, provider in gateway.providers.items()}
        self._job_is_over = job_is_over
        self._asking = threading.Lock()  # held between looking for a request and adding it

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def ask(self, provider: Provider, body: Json, origin: CallOrigin) -> Json | None:
        """The answer that a batch has brought this step. None where the chain must answer: the request is cached or in
        flight, has no identity, or the provider could not answer it in a batch.

        Raises BatchPending, ProviderError (the provider takes no such batch) and BudgetExceeded.
        """
        identity = completions.identity(provider, body, origin.example_id, None)
        if identity is None or origin.job_id is None or origin.step_id is None:
            return None
        if self._calls.in_flight(origin.project_id, identity.key):
            return None
        if await asyncio.to_thread(self.ledger.flies, origin.project_id, identity.key):
            return None
        return await asyncio.to_thread(self._ask, provider, body, origin, identity)

    def _ask(self, provider: Provider, body: Json, origin: CallOrigin, identity: Identity) -> Json | None:
        key, former = identity
        with self._asking:
            # the request first: an answer is cached in the transaction that settles it
            request = self.store.find(origin.project_id, origin.step_id, provider.name, (key, former))
            kept = self.ledger.kept(origin.project_id, key, former=former, provider=provider.name)
            cached = completions.usable(kept.response, provider) if kept is not None else None
            passed_over = [kept.call_id] if kept is not None and cached is None else []
            if cached is not None and completions.REFUSED in cached:
                return None
            if request is not None and request.call.state == "intent":
                raise BatchPending(batch_progress(request.batch), again_in_s=self.poll_s)
            if request is not None and request.mine:
                if request.batch.state == "failed" or request.call.outcome == FAILED:  # its calls are settled first
                    raise errors.batch_failed(provider, request.batch.error or request.call.error)
                answer = request.answer or cached
                if answer is None and self._other_now(provider, request):
                    self._add(provider, body, origin, key, passed_over)
                    raise BatchPending(
                        "its request waits for another batch, as the provider wants it", again_in_s=self.poll_s
                    )
                return answer
            if cached is None:
                self._add(provider, body, origin, key, passed_over)
                raise BatchPending("its request waits for a batch to be filled", again_in_s=self.poll_s)
            return None

    def _other_now(self, provider: Provider, request: BatchedRequest) -> bool:
        """Whether a request that was refused, or used up by reasoning, would go otherwise by what was learned since."""
        refused = str(request.call.outcome).startswith("http_4") or request.call.outcome == "thought"
        return refused and self._negotiations[provider.name].learned.at > request.call.created_at

    def _add(self, provider: Provider, body: Json, origin: CallOrigin, digest: str, passed_over: Sequence[str]) -> None:
        sent = self._negotiations[provider.name].adapt(body, batch=True).sent
        most = completions.most(provider.in_batches(), sent)
        capacity = (self.settings.batch_requests, self.settings.batch_bytes)
        size = len(line_of("call-" + "0" * 32, sent))
        try:
            self.store.add(origin, provider.name, provider.model, digest, most, sent, size, capacity, passed_over)
        except InFlight:
            raise BatchPending("an equal request is on its way", again_in_s=self.poll_s) from None
        except RoomHeld:
            raise BatchPending("its budget is held by calls on their way", again_in_s=self.poll_s) from None

    async def run_forever(self) -> None:
        while True:
            try:
                if await asyncio.to_thread(self._leads):
                    await asyncio.to_thread(self.store.seal, time.time() - self.settings.batch_window.total_seconds())
                    due = await asyncio.to_thread(self.store.due)
                    await asyncio.gather(*(self._advance_or_note(batch) for batch in due))
                    left = await asyncio.to_thread(self.store.leftovers)
                    await asyncio.gather(*(self._files.clean(self._clients.get(one.provider), one) for one in left))
            except UNAVAILABLE as error:
                log.warning("database unavailable, batches wait", error=str(error))
            await asyncio.sleep(min(TICK_S, self.poll_s))

    async def _advance_or_note(self, batch: BatchRecord) -> None:
        try:
            await self._advance(batch)
        except ProviderError as failure:
            if batch.state == "submitted" and failure.outcome in errors.NO_ROUTE:
                await self._lost(batch)
                return
            log.warning("trouble with a batch", batch=batch.id, code=failure.code, error=failure.message)
            later = time.time() + (failure.retry_after or min(UNAVAILABLE_S, self.poll_s))
            await self._note(batch, error=failure.message, not_before=later)

    async def _lost(self, batch: BatchRecord) -> None:
        """The provider has deleted the batch or its answers. Its cost is unknown."""
        log.error("batch lost", batch=batch.id, remote=batch.remote_id)
        await asyncio.to_thread(self.store.end, batch.id, "lost", "the provider has deleted the batch", cost=None)

    async def _advance(self, batch: BatchRecord) -> None:
        client = self._clients.get(batch.provider)
        if client is None:
            await self._note(
                batch, error="this provider is not configured any more", not_before=time.time() + self.poll_s
            )
            return
        over = await asyncio.to_thread(self._job_is_over, batch.job_id)
        if batch.state == "sealed" and not over:
            await self._upload(client, batch)
        elif batch.state == "submitted":
            await self._fetch(client, batch, over)
        else:
            await self._submit(client, batch, over)

    async def _upload(self, client: BatchClient, batch: BatchRecord) -> None:
        try:
            await self._files.upload(client, batch)
        except ProviderError as failure:
            await self._refused(batch, failure)

    async def _submit(self, client: BatchClient, batch: BatchRecord, over: bool) -> None:
        """`asked` is committed before the request is sent: from then on the provider may have a batch whose id was lost. Until that try
        has ended nobody makes another one, or ends the batch as one that was not sent."""
        remote = await client.find(batch.id) if batch.asked else None
        if remote is None:
            if not await asyncio.to_thread(self.store.ask, batch, END_S if over else CREATE_S):
                return  # two gateways led for a moment
            if over:
                why = "the job was over before the batch was sent"
                await asyncio.to_thread(self.store.end, batch.id, "cancelled", why)
                return
            try:
                remote = await client.create(batch.id, str(batch.remote_file))
            except ProviderError as failure:
                await self._refused(replace(batch, asked=batch.asked + 1), failure)
                return
        log.info("batch submitted", batch=batch.id, remote=remote["id"], requests=batch.requests)
        await self._note(
            batch, state="submitted", remote_id=remote["id"], remote_status=remote.get("status"), error=None,
            not_before=time.time() + self.poll_s,
        )  # fmt: skip

    async def _refused(self, batch: BatchRecord, failure: ProviderError) -> None:
        """The batch fails where the request, the key or the account is at fault; other errors are tried again."""
        if failure.most_attempts > errors.NEVER:
            raise failure
        if not await asyncio.to_thread(self.store.ask, batch, END_S):
            return  # another gateway has sent it
        log.error("batch refused", batch=batch.id, error=failure.message)
        await asyncio.to_thread(self.store.end, batch.id, FAILED, failure.message, failed=True)

    async def _fetch(self, client: BatchClient, batch: BatchRecord, over: bool) -> None:
        remote = await client.get(str(batch.remote_id))
        status, counts = remote.get("status"), remote.get("request_counts") or {}
        answered = counts.get("completed") or 0
        await self._note(
            batch, remote_status=status, answered=answered, error=None, not_before=time.time() + self.poll_s
        )
        if status == "failed":
            await self._failed(batch, remote)
        elif status in ENDED:
            await self._collect(client, batch, remote)
        elif over and status in ("validating", "in_progress"):
            log.info("batch cancelled with its job", batch=batch.id)
            await client.cancel(str(batch.remote_id))

    async def _failed(self, batch: BatchRecord, remote: Json) -> None:
        error = ((remote.get("errors") or {}).get("data") or [{}])[0]
        why = str(error.get("message") or "it failed")[: errors.SHOWN]
        if error.get("code") in QUEUE_FULL:
            later = time.time() + min(QUEUE_FULL_S, 10 * self.poll_s)
            await self._note(batch, state="uploaded", remote_id=None, error=why, not_before=later)
            return
        log.error("batch failed", batch=batch.id, error=why)
        await asyncio.to_thread(self.store.end, batch.id, FAILED, why, failed=True)

    async def _collect(self, client: BatchClient, batch: BatchRecord, remote: Json) -> None:
        """Each row is settled by itself, so that a kill in the middle loses none before it."""
        unanswered = set(await asyncio.to_thread(self.store.open_calls, batch.id))
        files = [remote[name] for name in FILES if remote.get(name)]
        for file_id in files:
            async for row in client.lines(file_id):
                call_id = row.get("custom_id") if isinstance(row, dict) else None
                if isinstance(call_id, str) and call_id in unanswered:
                    unanswered.discard(call_id)
                    lesson = await asyncio.to_thread(self._settle, client.provider, call_id, row)
                    if lesson is not None:
                        await self._negotiations[batch.provider].learn_from_batch(lesson, batch.created_at)
        status = remote["status"]
        outcome, error = ("unanswered", None) if status == "completed" else (status, f"the batch was {status}")
        await asyncio.to_thread(self.store.end, batch.id, outcome, error, files=files)
        log.info("batch fetched", batch=batch.id, status=status, requests=batch.requests, unanswered=len(unanswered))

    def _settle(self, provider: Provider, call_id: str, row: Json) -> Completion | Rule | None:
        """Returns what it teaches of the provider: the answer, or the change that its refusal asks for."""
        response = row.get("response") or {}
        if row.get("error") or response.get("status_code") != 200:
            return self._settle_refused(provider, call_id, row)
        try:
            body = completions.checked(provider, response.get("body"))
        except ProviderError as failure:
            self._settle_failed(provider, call_id, failure)
            return None
        habits = self._negotiations[provider.name].habits
        completion = completions.completion(provider.in_batches(), call_id, body, habits=habits)
        if completion.outcome == "thought":  # asked again, it has more room
            self.ledger.settle(call_id, completion.outcome, completion.cost)
        else:
            self.store.answered(call_id, completion.outcome, completion.cost, body, keep=completion.cacheable)
        metrics.CALLS.labels(provider.name, completion.outcome).inc()
        metrics.count_cost(provider.name, completion.cost)
        return completion

    def _settle_refused(self, provider: Provider, call_id: str, row: Json) -> Rule | None:
        """It costs nothing. Asked again it goes into another batch where the refusal taught something, else it is sent by itself."""
        error, response = row.get("error"), row.get("response") or {}
        code = error.get("code") if isinstance(error, dict) else None
        if code in ("batch_expired", "batch_cancelled"):
            outcome = code.removeprefix("batch_")
            metrics.CALLS.labels(provider.name, outcome).inc()
            self.ledger.settle(call_id, outcome, NOTHING, error="the batch ended before it was computed")
            return None
        status = response.get("status_code")
        payload = json.dumps(response.get("body") or {"error": error}).encode()
        failure = errors.refused(provider, status if isinstance(status, int) else 500, {}, payload)
        sent = self.store.sent(call_id)
        self._settle_failed(provider, call_id, failure)
        return self._negotiations[provider.name].change_in_batch(failure, sent) if sent else None

    def _settle_failed(self, provider: Provider, call_id: str, failure: ProviderError) -> None:
        failure.call_id = call_id
        metrics.CALLS.labels(provider.name, failure.outcome).inc()
        keep = completions.kept_refusal(failure, provider)
        self.ledger.settle(call_id, failure.outcome, failure.cost, error=failure.message, keep=keep)

    async def _note(self, batch: BatchRecord, **values: Any) -> bool:
        return await asyncio.to_thread(lambda: self.store.note(batch, **values))
