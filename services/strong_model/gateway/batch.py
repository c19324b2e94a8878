"""Calls that may wait: collected, sent as one batch for less money, and fetched when the provider has computed them.

Nobody waits here. Who asks is told to ask again later (BatchPending), and finds the answer then. Everything is in the ledger's
tables (shared/ledger/batch_store.py), so a gateway that was killed anywhere goes on where it was: before a batch is created a
second time, the provider's own list is searched for the first.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from services.strong_model.gateway import completions, errors
from services.strong_model.gateway.batch_client import BatchClient, line_of
from services.strong_model.gateway.chain import CALLS, KEPT, TOKENS, USD
from services.strong_model.gateway.coalesce import Calls
from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.settings import Provider, StrongSettings
from shared.contracts.errors import BatchPending
from shared.db.engine import UNAVAILABLE
from shared.ledger.accounts import RoomHeld
from shared.ledger.batch_store import BatchStore
from shared.ledger.records import BatchRecord
from shared.ledger.store import CallOrigin, Cost
from shared.platform.log import get_logger

log = get_logger(__name__)
TICK_S = 1.0
TROUBLE_S = 10.0  # until the provider is asked again after it could not be reached
LATER = frozenset({"token_limit_exceeded"})  # too much is waiting there already: it fits in when that is done
LATER_S = 300.0
OVER = frozenset({"completed", "expired", "cancelled"})

JobIsOver = Callable[[str], bool]


class Batches:
    """All batches of this gateway. calls: those that are sent by themselves. job_is_over: whether a job was cancelled or has
    failed, by its id."""

    def __init__(self, calls: Calls, settings: StrongSettings, job_is_over: JobIsOver):
        self.ledger = calls.ledger
        self.store = BatchStore(calls.ledger)
        self.settings = settings
        self.poll_s = settings.batch_poll.total_seconds()
        self._calls = calls
        self._clients = {name: BatchClient(client.provider, settings) for name, client in calls.clients.items()}
        self._job_is_over = job_is_over
        self._one_at_a_time = threading.Lock()  # between looking for a request and adding it

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    # who asks

    async def ask(self, provider: Provider, body: dict[str, Any], origin: CallOrigin) -> dict[str, Any] | None:
        """The answer that a batch has brought this step, or None where the request has to be sent by itself: it is kept
        already or just being answered, cannot be told from others, or the provider could not answer it in a batch.

        Raises BatchPending, TeacherFailure (the provider takes no such batch) and BudgetExceeded.
        """
        digest = completions.identity(body, origin.example_id, None)
        if digest is None or origin.job_id is None or origin.step_id is None:
            return None
        if self._calls.in_flight(origin.project_id, digest):
            return None
        return await asyncio.to_thread(self._ask, provider, body, origin, digest)

    def _ask(self, provider: Provider, body: dict[str, Any], origin: CallOrigin, digest: str) -> dict[str, Any] | None:
        with self._one_at_a_time:
            return self._found_or_added(provider, body, origin, digest)

    def _found_or_added(
        self, provider: Provider, body: dict[str, Any], origin: CallOrigin, digest: str
    ) -> dict[str, Any] | None:
        kept = self.ledger.kept(origin.project_id, digest)
        found = self.store.find(origin.project_id, origin.step_id, digest)
        if found is not None and found.call.state == "intent":
            raise self._pending(provider, found.batch)
        if found is not None and found.mine:
            if found.batch.state == "failed":
                raise errors.batch_failed(provider, found.batch.error)
            return found.answer or kept  # its own: nothing was saved
        if kept is not None:
            return None
        self._add(provider, body, origin, digest)
        raise BatchPending("its request waits for a batch to be filled", again_in_s=self.poll_s)

    def _add(self, provider: Provider, body: dict[str, Any], origin: CallOrigin, digest: str) -> None:
        sent = completions.sent_to(provider, body)
        most = completions.most(provider.in_batches(), body)
        room = (self.settings.batch_requests, self.settings.batch_bytes)
        try:
            size = len(line_of("call-" + "0" * 32, sent))
            self.store.add(origin, provider.name, provider.model, digest, most, sent, size, room)
        except RoomHeld:
            raise BatchPending("its budget is held by calls on their way", again_in_s=self.poll_s) from None

    def _pending(self, provider: Provider, batch: BatchRecord) -> BatchPending:
        if batch.state != "submitted":
            what = f"a batch of {batch.requests} requests is made up for provider {provider.name!r}"
        else:
            done = f"{batch.answered} of {batch.requests} requests done"
            minutes = (time.time() - batch.created_at) / 60
            what = f"a batch at provider {provider.name!r}: {batch.remote_status}, {done} after {minutes:.0f} min"
        trouble = f" ({batch.error})" if batch.error else ""
        return BatchPending(what + trouble, again_in_s=self.poll_s)

    # what is sent and fetched

    async def run_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.store.seal, time.time() - self.settings.batch_window.total_seconds())
                due = await asyncio.to_thread(self.store.due)
                await asyncio.gather(*(self._look_after(batch) for batch in due))
            except UNAVAILABLE as error:
                log.warning("database away, batches wait", error=str(error))
            await asyncio.sleep(min(TICK_S, self.poll_s))

    async def _look_after(self, batch: BatchRecord) -> None:
        try:
            await self._go_on(batch)
        except TeacherFailure as failure:
            if batch.state == "submitted" and failure.outcome == errors.GONE:
                await self._lost(batch)
                return
            log.warning("trouble with a batch", batch=batch.id, code=failure.code, error=failure.message)
            later = time.time() + (failure.retry_after or min(TROUBLE_S, self.poll_s))
            await self._note(batch, error=failure.message, not_before=later)

    async def _lost(self, batch: BatchRecord) -> None:
        """The provider does not know it, or its answers, any more. Nobody knows what it cost."""
        log.error("batch lost", batch=batch.id, remote=batch.remote_id)
        await asyncio.to_thread(self.store.end, batch.id, "lost", "the provider has let go of the batch", cost=None)

    async def _go_on(self, batch: BatchRecord) -> None:
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
            file_id = await client.upload(batch.id, self.store.requests(batch.id))
        except TeacherFailure as failure:
            await self._refused(batch, failure)
            return
        await self._note(batch, state="uploaded", remote_file=file_id, error=None)

    async def _submit(self, client: BatchClient, batch: BatchRecord, over: bool) -> None:
        """asked is committed before the request is sent: from then on there may be a batch that we do not know of."""
        found = await client.find(batch.id) if batch.asked else None
        if found is None and over:
            await self._end(client, batch, "cancelled", "the job was over before the batch was sent")
            return
        if found is None:
            await self._note(batch, asked=batch.asked + 1)
            try:
                found = await client.create(batch.id, str(batch.remote_file))
            except TeacherFailure as failure:
                await self._refused(batch, failure)
                return
        log.info("batch submitted", batch=batch.id, remote=found["id"], requests=batch.requests)
        await self._note(
            batch, state="submitted", remote_id=found["id"], remote_status=found.get("status"), error=None,
            not_before=time.time() + self.poll_s,
        )  # fmt: skip

    async def _refused(self, batch: BatchRecord, failure: TeacherFailure) -> None:
        """For good where the request, the key or the account is at fault; else it is tried again."""
        if failure.most_attempts > errors.NEVER:
            raise failure
        log.error("batch refused", batch=batch.id, error=failure.message)
        await asyncio.to_thread(self.store.end, batch.id, "batch_failed", failure.message, failed=True)

    async def _fetch(self, client: BatchClient, batch: BatchRecord, over: bool) -> None:
        remote = await client.get(str(batch.remote_id))
        status, counts = remote.get("status"), remote.get("request_counts") or {}
        answered = counts.get("completed") or 0
        await self._note(
            batch, remote_status=status, answered=answered, error=None, not_before=time.time() + self.poll_s
        )
        if status == "failed":
            await self._failed(batch, remote)
        elif status in OVER:
            await self._collect(client, batch, remote)
        elif over and status in ("validating", "in_progress"):
            log.info("batch cancelled with its job", batch=batch.id)
            await client.cancel(str(batch.remote_id))

    async def _failed(self, batch: BatchRecord, remote: dict[str, Any]) -> None:
        said = ((remote.get("errors") or {}).get("data") or [{}])[0]
        why = str(said.get("message") or "it failed")[: errors.SHOWN]
        if said.get("code") in LATER:
            later = time.time() + min(LATER_S, 10 * self.poll_s)
            await self._note(batch, state="uploaded", remote_id=None, error=why, not_before=later)
            return
        log.error("batch failed", batch=batch.id, error=why)
        await asyncio.to_thread(self.store.end, batch.id, "batch_failed", why, failed=True)

    async def _collect(self, client: BatchClient, batch: BatchRecord, remote: dict[str, Any]) -> None:
        """Every row is settled by itself, so that a kill in the middle loses none of those before."""
        left = set(await asyncio.to_thread(self.store.open_calls, batch.id))
        for name in ("output_file_id", "error_file_id"):
            if remote.get(name):
                async for row in client.lines(remote[name]):
                    call_id = row.get("custom_id") if isinstance(row, dict) else None
                    if isinstance(call_id, str) and call_id in left:
                        left.discard(call_id)
                        await asyncio.to_thread(self._settle, client.provider, call_id, row)
        status = remote["status"]
        outcome = status if status != "completed" else "unanswered"
        files = [remote.get(name) for name in ("output_file_id", "error_file_id")]
        await self._end(client, batch, outcome, None if status == "completed" else f"the batch was {status}", *files)
        log.info("batch fetched", batch=batch.id, status=status, requests=batch.requests, unanswered=len(left))

    async def _end(
        self, client: BatchClient, batch: BatchRecord, outcome: str, error: str | None, *files: str | None
    ) -> None:
        """The files go from the provider once all that was in them is here: they are the user's data."""
        await asyncio.to_thread(self.store.end, batch.id, outcome, error)
        for file_id in filter(None, (batch.remote_file, *files)):
            try:
                await client.delete_file(file_id)
            except TeacherFailure as failure:
                log.warning("a batch's file stays with the provider", file=file_id, error=failure.message)

    def _settle(self, provider: Provider, call_id: str, row: dict[str, Any]) -> None:
        response = row.get("response") or {}
        if row.get("error") or response.get("status_code") != 200:
            outcome, said = _refusal(provider, row)
            CALLS.labels(provider.name, outcome).inc()
            self.ledger.settle(call_id, outcome, Cost(), error=said)
            return
        try:
            body = completions.checked(provider, response.get("body"))
        except TeacherFailure as failure:
            CALLS.labels(provider.name, failure.outcome).inc()
            self.ledger.settle(call_id, failure.outcome, None, error=failure.message)
            return
        body[completions.OWN] = {"call_id": call_id, "provider": provider.name}
        outcome, cost = completions.outcome(body), completions.cost(provider.in_batches(), body)
        self.store.answered(call_id, outcome, cost, body, keep=outcome in KEPT)
        CALLS.labels(provider.name, outcome).inc()
        if cost is not None:
            TOKENS.labels(provider.name, "input").inc(cost.input_tokens)
            TOKENS.labels(provider.name, "output").inc(cost.output_tokens)
            USD.labels(provider.name).inc(cost.usd)

    async def _note(self, batch: BatchRecord, **values: Any) -> None:
        await asyncio.to_thread(lambda: self.store.note(batch.id, **values))


def _refusal(provider: Provider, row: dict[str, Any]) -> tuple[str, str]:
    """(outcome, what was said) of a request that the provider did not answer; it costs nothing, and is sent by itself when it
    is asked again."""
    error, response = row.get("error"), row.get("response") or {}
    code = error.get("code") if isinstance(error, dict) else None
    if code in ("batch_expired", "batch_cancelled"):
        return code.removeprefix("batch_"), "the batch ended before it was computed"
    status = response.get("status_code")
    payload = json.dumps(response.get("body") or {"error": error}).encode()
    failure = errors.refused(provider, status if isinstance(status, int) else 500, {}, payload)
    return failure.outcome, failure.message
