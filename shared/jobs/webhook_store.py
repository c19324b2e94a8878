"""Webhook endpoints and deliveries. A claim holds a delivery until `next_at`; unless it is settled by then it is sent again."""

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Executable, Select, and_, delete, func, select, update

from shared.contracts.errors import Conflict, NotFound
from shared.contracts.webhooks import DeliveryAttempt, WebhookEvent
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_all, fetch_first
from shared.db.paging import keyset_page
from shared.jobs.outbox import DELIVERED, FAILED, PENDING, TRIED_FOR_S, insert_webhook
from shared.jobs.records import ClaimedDelivery, DeliveryRecord, WebhookRecord
from shared.jobs.tables import deliveries, projects, webhooks

MOST = 50  # endpoints of a project, its jobs' own ones not counted
LOGGED = 20  # newest attempts in a delivery's log
OLD_SECRET_S = 24 * 3600.0


class DeliveryOutcome(NamedTuple):
    """Of one attempt. pause_s: seconds until the next one. gone: the endpoint answered 410 and gets no more deliveries."""

    status: int | None
    error: str | None
    seconds: float
    delivered: bool
    gone: bool
    pause_s: float


class WebhookStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, name: str, url: str, event_types: Sequence[WebhookEvent]) -> WebhookRecord:
        """Raises Conflict if the project has too many."""
        with writing(self.engine) as connection:
            # the lock admits one new endpoint of a project at a time, so that their number stays below its limit
            connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True))
            mine = and_(webhooks.c.project_id == project_id, webhooks.c.job_id.is_(None))
            if connection.execute(select(func.count()).where(mine)).scalar_one() >= MOST:
                raise Conflict(f"a project has at most {MOST} webhooks; delete one first", code="too_many_webhooks")
            return insert_webhook(connection, project_id, name, url, event_types, secrets.token_hex(32))

    def get(self, project_id: str, webhook_id: str) -> WebhookRecord:
        """Raises NotFound, also for another project's webhook."""
        with reading(self.engine) as connection:
            return _fetch(connection, _one(project_id, webhook_id), webhook_id)

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[WebhookRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`."""
        query = select(webhooks).where(webhooks.c.project_id == project_id)
        return keyset_page(self.engine, WebhookRecord, query, webhooks.c.id, after, limit, "webhook")

    def change(self, project_id: str, webhook_id: str, values: Mapping[str, Any]) -> WebhookRecord:
        """values: by column, and `disabled`. Raises NotFound."""
        changed = {name: value for name, value in values.items() if name != "disabled"}
        if "disabled" in values:
            changed["disabled_at"] = time.time() if values["disabled"] else None
            changed["disabled_reason"] = "by request" if values["disabled"] else None
        with writing(self.engine) as connection:
            return self._update(connection, project_id, webhook_id, changed)

    def rotate(self, project_id: str, webhook_id: str, keep_old: bool) -> WebhookRecord:
        """Make a new secret; with keep_old messages are signed with both for a day. Raises NotFound."""
        with writing(self.engine) as connection:
            webhook = _fetch(connection, _one(project_id, webhook_id).with_for_update(), webhook_id)
            old = (
                {"old_seed": webhook.seed, "old_until": time.time() + OLD_SECRET_S} if keep_old else {"old_seed": None}
            )
            return self._update(connection, project_id, webhook_id, {"seed": secrets.token_hex(32)} | old)

    def _update(
        self, connection: Connection, project_id: str, webhook_id: str, values: Mapping[str, Any]
    ) -> WebhookRecord:
        mine = and_(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)
        changed = update(webhooks).where(mine).values(updated_at=time.time(), **values).returning(webhooks)
        return _fetch(connection, changed, webhook_id)

    def remove(self, project_id: str, webhook_id: str) -> None:
        """Remove it with its deliveries; one that is being sent may still arrive. Raises NotFound."""
        with writing(self.engine) as connection:
            _fetch(connection, _one(project_id, webhook_id).with_for_update(), webhook_id)
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    def deliveries(
        self, project_id: str, webhook_id: str, after: str | None, limit: int, state: str | None = None
    ) -> tuple[list[DeliveryRecord], bool]:
        """Newest first. Raises NotFound, and UserError for an unknown `after`."""
        self.get(project_id, webhook_id)
        mine = deliveries.c.webhook_id == webhook_id
        query = select(deliveries).where(mine if state is None else mine & (deliveries.c.state == state))
        return keyset_page(self.engine, DeliveryRecord, query, deliveries.c.id, after, limit, "delivery")

    def replay(self, project_id: str, webhook_id: str, delivery_id: str) -> DeliveryRecord:
        """Send it again under its id, for another day. Raises NotFound, and Conflict if the endpoint is disabled."""
        if self.get(project_id, webhook_id).disabled_at is not None:
            raise Conflict(f"webhook {webhook_id} is disabled; enable it first", code="webhook_disabled")
        mine = and_(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
        again = {"state": PENDING, "next_at": time.time(), "expires_at": time.time() + TRIED_FOR_S, "finished_at": None}
        with writing(self.engine) as connection:
            changed = update(deliveries).where(mine).values(**again).returning(deliveries)
            delivery = fetch_first(connection, DeliveryRecord, changed)
        if delivery is None:
            raise NotFound(f"no delivery {delivery_id!r}", param="delivery_id", code="delivery_not_found")
        return delivery

    def claim(self, limit: int, lease_s: float, busy: Collection[str] = ()) -> list[ClaimedDelivery]:
        """Take the oldest due delivery of each endpoint for lease_s seconds.

        busy: endpoints to skip, so that a slow one delays only itself.
        """
        now = time.time()
        due = and_(deliveries.c.state == PENDING, deliveries.c.next_at <= now)
        oldest = (
            select(func.min(deliveries.c.id))
            .join_from(deliveries, webhooks)
            .where(due, webhooks.c.disabled_at.is_(None), webhooks.c.id.not_in(busy))
            .group_by(deliveries.c.webhook_id)
            .limit(limit)
        )
        with reading(self.engine) as connection:
            ids = list(connection.execute(oldest).scalars())
        if not ids:
            return []  # saves a writing transaction; SQLite has one at a time
        taken = {"next_at": now + lease_s, "attempts": deliveries.c.attempts + 1}
        with writing(self.engine) as connection:
            mine = connection.execute(
                update(deliveries).where(deliveries.c.id.in_(ids), due).values(**taken).returning(deliveries.c.id)
            ).scalars()
            where_to = (webhooks.c.url, webhooks.c.seed, webhooks.c.old_seed, webhooks.c.old_until)
            query = select(deliveries, *where_to).join_from(deliveries, webhooks).where(deliveries.c.id.in_(list(mine)))
            return fetch_all(connection, ClaimedDelivery, query)

    def settle(self, claimed: ClaimedDelivery, outcome: DeliveryOutcome) -> str | None:
        """Record an attempt; returns the delivery's state. None: it was deleted, replayed or claimed again in between."""
        now = time.time()
        seconds = round(outcome.seconds, 3)
        attempt = DeliveryAttempt(at=now, status=outcome.status, error=outcome.error, seconds=seconds)
        over = outcome.gone or now + outcome.pause_s > claimed.expires_at
        state = DELIVERED if outcome.delivered else FAILED if over else PENDING
        mine = and_(
            deliveries.c.id == claimed.id,
            deliveries.c.attempts == claimed.attempts,
            deliveries.c.next_at == claimed.next_at,
        )
        values = {
            "state": state,
            "last_status": outcome.status,
            "log": [entry.model_dump() for entry in (*claimed.log, attempt)[-LOGGED:]],
            "next_at": now + outcome.pause_s,
            "finished_at": None if state == PENDING else now,
        }
        with writing(self.engine) as connection:
            if outcome.gone:
                off = {"disabled_at": now, "disabled_reason": "it answered 410"}
                still = and_(webhooks.c.id == claimed.webhook_id, webhooks.c.disabled_at.is_(None))
                connection.execute(update(webhooks).where(still).values(**off))
            settled = update(deliveries).where(mine).values(**values).returning(deliveries.c.state)
            return connection.execute(settled).scalar_one_or_none()

    def forget(self, before: float) -> int:
        """Remove deliveries created before a time that have expired. Returns how many."""
        old = and_(deliveries.c.created_at < before, deliveries.c.expires_at < time.time())
        with writing(self.engine) as connection:
            return connection.execute(delete(deliveries).where(old)).rowcount


def _one(project_id: str, webhook_id: str) -> Select:
    return select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)


def _fetch(connection: Connection, query: Executable, webhook_id: str) -> WebhookRecord:
    webhook = fetch_first(connection, WebhookRecord, query)
    if webhook is None:
        raise NotFound(f"no webhook {webhook_id!r}", param="webhook_id", code="webhook_not_found")
    return webhook
