"""Endpoints and deliveries. Whoever claims a delivery has it until `next_at`; if nothing is heard by then it is sent again."""

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine, Row, and_, delete, func, select, update

from shared.contracts.errors import Conflict, NotFound, UserError
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import reading, writing
from shared.jobs.outbox import DELIVERED, FAILED, PENDING, TRIED_FOR_S, insert_webhook
from shared.jobs.tables import deliveries, webhooks

MOST = 50  # endpoints of a project, beside those of its jobs
LOGGED = 20  # attempts that a delivery's log holds
OLD_SECRET_S = 24 * 3600.0


class Outcome(NamedTuple):
    """Of one attempt. pause_s: until the next one, where there is to be one. gone: the endpoint wants to hear nothing any more."""

    status: int | None
    error: str | None
    seconds: float
    delivered: bool
    gone: bool
    pause_s: float


class WebhookStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def add(self, project_id: str, name: str, url: str, event_types: Sequence[WebhookEvent]) -> Row:
        """Raises Conflict where the project has too many."""
        with writing(self.engine) as connection:
            mine = and_(webhooks.c.project_id == project_id, webhooks.c.job_id.is_(None))
            if connection.execute(select(func.count()).where(mine)).scalar_one() >= MOST:
                raise Conflict(f"a project has at most {MOST} webhooks; delete one first", code="too_many_webhooks")
            return insert_webhook(connection, project_id, name, url, event_types, secrets.token_hex(32))

    def get(self, project_id: str, webhook_id: str) -> Row:
        """Raises NotFound, also for another project's."""
        with reading(self.engine) as connection:
            return _found(connection.execute(_one(project_id, webhook_id)).first(), webhook_id)

    def page(self, project_id: str, after: str | None, limit: int) -> tuple[list[Row], bool]:
        """Newest first. Raises UserError for an `after` that does not exist."""
        return self._page(webhooks, webhooks.c.project_id == project_id, after, limit)

    def change(self, project_id: str, webhook_id: str, values: Mapping[str, Any]) -> Row:
        """values: columns, and `disabled`. Raises NotFound."""
        changed = {name: value for name, value in values.items() if name != "disabled"}
        if "disabled" in values:
            changed["disabled_at"] = time.time() if values["disabled"] else None
            changed["disabled_reason"] = "by request" if values["disabled"] else None
        with writing(self.engine) as connection:
            return self._update(connection, project_id, webhook_id, changed)

    def rotate(self, project_id: str, webhook_id: str, keep_old: bool) -> Row:
        """Another secret; with keep_old messages are signed with both for a day. Raises NotFound."""
        with writing(self.engine) as connection:
            row = _found(connection.execute(_one(project_id, webhook_id).with_for_update()).first(), webhook_id)
            old = {"old_seed": row.seed, "old_until": time.time() + OLD_SECRET_S} if keep_old else {"old_seed": None}
            return self._update(connection, project_id, webhook_id, {"seed": secrets.token_hex(32)} | old)

    def _update(self, connection, project_id: str, webhook_id: str, values: Mapping[str, Any]) -> Row:
        mine = and_(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)
        changed = update(webhooks).where(mine).values(updated_at=time.time(), **values).returning(webhooks)
        return _found(connection.execute(changed).first(), webhook_id)

    def remove(self, project_id: str, webhook_id: str) -> None:
        """With its deliveries; what is under way may still arrive. Raises NotFound."""
        with writing(self.engine) as connection:
            _found(connection.execute(_one(project_id, webhook_id).with_for_update()).first(), webhook_id)
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    def deliveries(
        self, project_id: str, webhook_id: str, after: str | None, limit: int, state: str | None = None
    ) -> tuple[list[Row], bool]:
        """Newest first. Raises NotFound, and UserError for an `after` that does not exist."""
        self.get(project_id, webhook_id)
        mine = deliveries.c.webhook_id == webhook_id
        return self._page(deliveries, mine if state is None else mine & (deliveries.c.state == state), after, limit)

    def _page(self, table, mine, after: str | None, limit: int) -> tuple[list[Row], bool]:
        query = select(table).where(mine)
        with reading(self.engine) as connection:
            if after:
                if connection.execute(query.where(table.c.id == after)).first() is None:
                    raise UserError(f"nothing {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(table.c.id < after)  # ids are UUIDv7: ordered by time
            rows = list(connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def replay(self, project_id: str, webhook_id: str, delivery_id: str) -> Row:
        """Send it once more, under its old id, for another day. Raises NotFound; Conflict where the endpoint is disabled."""
        if self.get(project_id, webhook_id).disabled_at is not None:
            raise Conflict(f"webhook {webhook_id} is disabled; enable it first", code="webhook_disabled")
        mine = and_(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
        again = {"state": PENDING, "next_at": time.time(), "expires_at": time.time() + TRIED_FOR_S, "finished_at": None}
        with writing(self.engine) as connection:
            row = connection.execute(update(deliveries).where(mine).values(**again).returning(deliveries)).first()
        if row is None:
            raise NotFound(f"no delivery {delivery_id!r}", param="delivery_id", code="delivery_not_found")
        return row

    def claim(self, limit: int, lease_s: float, busy: Collection[str] = ()) -> list[Row]:
        """Deliveries that are due, the oldest of each endpoint, with its url and seeds; they are the caller's for lease_s.

        busy: endpoints that get none now, so that a slow one holds up itself alone.
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
            return []  # without a writing transaction, of which SQLite has one at a time
        taken = {"next_at": now + lease_s, "attempts": deliveries.c.attempts + 1}
        with writing(self.engine) as connection:
            mine = connection.execute(
                update(deliveries).where(deliveries.c.id.in_(ids), due).values(**taken).returning(deliveries.c.id)
            ).scalars()
            where_to = (webhooks.c.url, webhooks.c.seed, webhooks.c.old_seed, webhooks.c.old_until)
            query = select(deliveries, *where_to).join_from(deliveries, webhooks).where(deliveries.c.id.in_(list(mine)))
            return list(connection.execute(query))

    def settle(self, claimed: Row, outcome: Outcome) -> str | None:
        """What one attempt has come to: the delivery's state. None: it was deleted, replayed or claimed anew meanwhile."""
        now = time.time()
        entry = {"at": now, "status": outcome.status, "error": outcome.error, "seconds": round(outcome.seconds, 3)}
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
            "log": [*claimed.log, entry][-LOGGED:],
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
        """Remove deliveries that were made before a time and are no longer tried."""
        old = and_(deliveries.c.created_at < before, deliveries.c.expires_at < time.time())
        with writing(self.engine) as connection:
            return connection.execute(delete(deliveries).where(old)).rowcount


def _one(project_id: str, webhook_id: str):
    return select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project_id == project_id)


def _found(row: Row | None, webhook_id: str) -> Row:
    if row is None:
        raise NotFound(f"no webhook {webhook_id!r}", param="webhook_id", code="webhook_not_found")
    return row
