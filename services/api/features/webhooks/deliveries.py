"""Delivers webhook messages from the store, at least once, for 24 hours. Any number of processes may run this."""

import asyncio
import contextlib
import json
import random
import time

import uuid_utils
from prometheus_client import Counter

from services.api.features.webhooks.signing import headers
from shared.contracts.errors import UserError
from shared.contracts.webhooks import WebhookEvent, WebhookTestResult
from shared.db.engine import UNAVAILABLE
from shared.jobs.records import ClaimedDelivery, WebhookRecord
from shared.jobs.webhook_store import DeliveryOutcome, WebhookStore
from shared.platform.log import get_logger
from shared.platform.safe_post import TOTAL_S, Poster, PostReply

log = get_logger(__name__)
LOOK_S = 1.0
AT_ONCE = 16
LEASE_S = 4 * TOTAL_S  # after this another process sends the message
FIRST_PAUSE_S, GROWTH, LONGEST_PAUSE_S = 5.0, 3.0, 2 * 3600.0  # 5 s, 15 s, 45 s ... 2 h: some 18 attempts in 24 hours
GONE = 410
FORGET_EVERY_S = 3600.0
ATTEMPTS = Counter("meteor_webhook_attempts_total", "Attempts to deliver a webhook message", ["outcome"])


class NoAnswer(UserError):
    code = "webhook_unreachable"


def pause_after(attempt: int, asked_s: float = 0.0, spread: float | None = None) -> float:
    """Seconds between attempt number `attempt` (from 1) and the next one, a quarter of it random.

    asked_s: what the receiver's `retry-after` asks for; it can lengthen the pause. spread: in [0, 1), for tests.
    """
    wanted = min(FIRST_PAUSE_S * GROWTH ** min(attempt - 1, 20), LONGEST_PAUSE_S)
    chance = random.random() if spread is None else spread  # noqa: S311
    return min(max(wanted * (1 - chance / 4), asked_s), LONGEST_PAUSE_S)


def outcome_of(reply: PostReply, attempt: int, seconds: float) -> DeliveryOutcome:
    """Any 2xx is a delivery. Redirects are not followed and count as failures."""
    delivered = reply.status is not None and 200 <= reply.status < 300
    pause_s = 0.0 if delivered else pause_after(attempt, reply.retry_after_s)
    return DeliveryOutcome(reply.status, reply.error, seconds, delivered, reply.status == GONE, pause_s)


def _word(outcome: DeliveryOutcome) -> str:
    """Of the metric: delivered, refused (it answered, not with a 2xx), or unreachable."""
    return "delivered" if outcome.delivered else "unreachable" if outcome.status is None else "refused"


async def send_test(poster: Poster, key: bytes, endpoint: WebhookRecord, event: WebhookEvent) -> WebhookTestResult:
    """Send one message now, outside the delivery log. Raises NoAnswer."""
    data = {"id": "ftjob-test", "status": event.value.rpartition(".")[2], "test": True}
    body = json.dumps(
        {
            "id": f"evt-{uuid_utils.uuid7().hex}",
            "object": "event",
            "created_at": int(time.time()),
            "type": event,
            "data": data,
        }
    )
    message_id = f"msg-{uuid_utils.uuid7().hex}"
    reply = await poster.post(endpoint.url, headers(key, endpoint, message_id, body), body.encode())
    if reply.status is None:
        raise NoAnswer(f"the endpoint gave no answer: {reply.error}", param="url")
    return WebhookTestResult(webhook_endpoint_id=endpoint.id, event_type=event, status_code=reply.status)


class Deliverer:
    """One message at a time to each endpoint, so that a slow endpoint delays no other."""

    def __init__(self, store: WebhookStore, poster: Poster, key: bytes, keep_s: float):
        self._store = store
        self._poster = poster
        self._key = key
        self._keep_s = keep_s
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._look_now = asyncio.Event()
        self._forgotten_at = time.monotonic()

    async def run(self) -> None:
        """Until cancelled. Messages in flight at that moment are sent again after their lease."""
        try:
            while True:
                self._look_now.clear()
                try:
                    await self._look()
                    await self._forget()
                except UNAVAILABLE as error:
                    log.warning("database unavailable, webhooks wait", error=str(error))
                except Exception:
                    log.exception("delivering webhooks failed")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._look_now.wait()
        finally:
            for task in self._busy.values():
                task.cancel()

    async def _look(self) -> None:
        room = AT_ONCE - len(self._busy)
        for row in await asyncio.to_thread(self._store.claim, room, LEASE_S, list(self._busy)) if room > 0 else ():
            task = self._busy[row.webhook_id] = asyncio.create_task(self._deliver(row))
            task.add_done_callback(lambda _, webhook_id=row.webhook_id: self._ended(webhook_id))

    def _ended(self, webhook_id: str) -> None:
        del self._busy[webhook_id]
        self._look_now.set()

    async def _deliver(self, row: ClaimedDelivery) -> None:
        started = time.monotonic()
        try:
            signed = headers(self._key, row, row.id, row.payload)
            reply = await self._poster.post(row.url, signed, row.payload.encode())
            outcome = outcome_of(reply, row.attempts, time.monotonic() - started)
            state = await asyncio.to_thread(self._store.settle, row, outcome)
            ATTEMPTS.labels(_word(outcome)).inc()
        except UNAVAILABLE as error:
            log.warning("database unavailable, the message will be sent again", delivery=row.id, error=str(error))
        except Exception:
            log.exception("a message could not be sent", delivery=row.id)
        else:
            log.info("webhook delivered", webhook=row.webhook_id, delivery=row.id, status=reply.status, state=state)

    async def _forget(self) -> None:
        if self._keep_s and time.monotonic() - self._forgotten_at > FORGET_EVERY_S:
            await asyncio.to_thread(self._store.forget, time.time() - self._keep_s)
            self._forgotten_at = time.monotonic()
