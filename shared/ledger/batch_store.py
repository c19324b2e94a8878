"""Batches of calls for a provider's batch API, as the ledger knows them: every call has its intent row before anything is sent.

A batch is filled (collecting), closed (sealed), its file is with the provider (uploaded), it is computed there (submitted),
and its answers are here (ended); failed: the provider would not have it, so none of it was computed. One gateway per database.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import Row, func, insert, select, update

from shared.db.engine import reading, writing
from shared.ledger.accounts import Amount
from shared.ledger.store import CallOrigin, Cost, Ledger
from shared.ledger.tables import batch_requests, batches, calls

OPEN = ("collecting", "sealed", "uploaded", "submitted")
PAGE = 200  # rows read at once
NOTHING = Cost()


class Found(NamedTuple):
    """What became of a request that was put into a batch. mine: by the step that asks now."""

    call: Row
    batch: Row
    mine: bool
    answer: dict[str, Any] | None


class BatchStore:
    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.engine = ledger.engine

    def add(
        self,
        origin: CallOrigin,
        provider: str,
        model: str,
        request_hash: str,
        most: Amount,
        body: dict[str, Any],
        size: int,
        room: tuple[int, int],
    ) -> str:
        """Put a request into the batch that its job collects for the provider; returns the call's id.

        size: of its line, bytes; room: requests and bytes that one batch may have. Raises BudgetExceeded and RoomHeld.
        """
        now = time.time()
        with writing(self.engine) as connection:
            batch = connection.execute(
                select(batches)
                .where(batches.c.job_id == origin.job_id, batches.c.provider == provider)
                .where(batches.c.state == "collecting")
                .with_for_update()
            ).first()
            if batch is not None and (batch.requests >= room[0] or batch.bytes + size > room[1]):
                connection.execute(update(batches).where(batches.c.id == batch.id).values(state="sealed"))
                batch = None
            if batch is None:
                batch_id = f"batch-{uuid_utils.uuid7().hex}"
                new = {"id": batch_id, "project_id": origin.project_id, "job_id": origin.job_id, "provider": provider}
                connection.execute(insert(batches).values(**new, state="collecting", created_at=now, added_at=now))
            else:
                batch_id = batch.id
            call_id = self.ledger.intend(connection, origin, provider, model, request_hash, most, batch_id)
            connection.execute(insert(batch_requests).values(call_id=call_id, batch_id=batch_id, body=body))
            more = {"requests": batches.c.requests + 1, "bytes": batches.c.bytes + size, "added_at": now}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**more))
        return call_id

    def find(self, project_id: str, step_id: str | None, request_hash: str) -> Found | None:
        """The latest batch that has this request: one on its way for whomever, else one that this step had it put into."""
        query = (
            select(calls, batch_requests.c.answer.label("answer"))
            .join(batch_requests, batch_requests.c.call_id == calls.c.id)
            .where(calls.c.project_id == project_id, calls.c.request_hash == request_hash)
            .where((calls.c.state == "intent") | (calls.c.step_id == step_id))
            .order_by((calls.c.state == "intent").desc(), calls.c.created_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            call = connection.execute(query).first()
            if call is None:
                return None
            batch = connection.execute(select(batches).where(batches.c.id == call.batch_id)).one()
        return Found(call, batch, call.step_id == step_id, call.answer)

    def seal(self, quiet_since: float) -> None:
        """Close what nothing was added to since then (Unix seconds)."""
        full = (batches.c.state == "collecting") & (batches.c.added_at <= quiet_since)
        with writing(self.engine) as connection:
            connection.execute(update(batches).where(full).values(state="sealed"))

    def due(self) -> list[Row]:
        """Closed batches that have not ended and may be looked at now, oldest first."""
        waiting = batches.c.state.in_(OPEN[1:]) & (batches.c.not_before <= time.time())
        with reading(self.engine) as connection:
            return list(connection.execute(select(batches).where(waiting).order_by(batches.c.created_at)))

    def collecting(self) -> list[Row]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(batches).where(batches.c.state == "collecting")))

    def note(self, batch_id: str, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))

    def requests(self, batch_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(call id, body) of every request, a page at a time."""
        after = ""
        while True:
            query = (
                select(batch_requests.c.call_id, batch_requests.c.body)
                .where(batch_requests.c.batch_id == batch_id, batch_requests.c.call_id > after)
                .order_by(batch_requests.c.call_id)
                .limit(PAGE)
            )
            with reading(self.engine) as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield row.call_id, row.body
            if len(rows) < PAGE:
                return
            after = rows[-1].call_id

    def open_calls(self, batch_id: str) -> list[Row]:
        with reading(self.engine) as connection:
            found = (calls.c.batch_id == batch_id) & (calls.c.state == "intent")
            return list(connection.execute(select(calls.c.id, calls.c.request_hash).where(found)))

    def answered(self, call_id: str, outcome: str, cost: Cost | None, body: dict[str, Any], keep: bool) -> None:
        """keep: as the answer to every equal request; else it is for the step that asked alone."""
        if not keep:
            with writing(self.engine) as connection:
                mine = batch_requests.c.call_id == call_id
                connection.execute(update(batch_requests).where(mine).values(answer=body))
        self.ledger.settle(call_id, outcome, cost, keep=body if keep else None)

    def end(
        self, batch_id: str, outcome: str, error: str | None, *, failed: bool = False, cost: Cost | None = NOTHING
    ) -> None:
        """Nothing more comes of it: calls without an answer get this outcome and cost; the requests' texts go."""
        for call in self.open_calls(batch_id):
            self.ledger.settle(call.id, outcome, cost, error=error)
        with writing(self.engine) as connection:
            connection.execute(update(batch_requests).where(batch_requests.c.batch_id == batch_id).values(body=None))
            answered = select(func.count()).where(calls.c.batch_id == batch_id, calls.c.input_tokens > 0)
            values = {"state": "failed" if failed else "ended", "error": error, "ended_at": time.time()}
            values |= {"answered": answered.scalar_subquery()}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))
