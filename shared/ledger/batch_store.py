"""Batches of calls for a provider's batch API. Every call has its intent row before anything is sent.

States: collecting (requests are added), sealed (complete), uploaded (the provider has its file), submitted (the provider computes
it), ended (its answers are stored), failed (the provider refused it; nothing was computed).
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import Connection, func, insert, select, update

from shared.contracts.json_types import Json
from shared.contracts.masking import masked
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.ledger.accounts import Amount
from shared.ledger.records import BatchRecord, CallRecord
from shared.ledger.store import CallOrigin, Cost, InFlight, Ledger, one_flight
from shared.ledger.tables import answers, batch_requests, batches, calls

OPEN = ("collecting", "sealed", "uploaded", "submitted")
PAGE = 200  # rows read at once
NOTHING = Cost()


class BatchedRequest(NamedTuple):
    """A request that was put into a batch. mine: by the step that asks now. answer: None until it was answered."""

    call: CallRecord
    batch: BatchRecord
    mine: bool
    answer: Json | None


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
        body: Json,
        size: int,
        room: tuple[int, int],
        outdated: bool = False,
    ) -> str:
        """Add a request to the batch that its job collects for the provider; returns the call's id.

        size: bytes of its line. room: maximum (requests, bytes) of a batch. outdated: an answer that is cached does not count.
        Raises BudgetExceeded, RoomHeld, and InFlight where an equal request is on its way or has been answered.
        """
        now = time.time()
        with one_flight(request_hash), writing(self.engine) as connection:
            self._raise_if_known(connection, origin.project_id, provider, request_hash, outdated)
            mine = select(batches).where(batches.c.job_id == origin.job_id, batches.c.provider == provider)
            collecting = mine.where(batches.c.state == "collecting").with_for_update()
            batch = fetch_first(connection, BatchRecord, collecting)
            if batch is not None and (batch.requests >= room[0] or batch.bytes + size > room[1]):
                connection.execute(update(batches).where(batches.c.id == batch.id).values(state="sealed"))
                batch = None
            if batch is None:
                batch_id = f"batch-{uuid_utils.uuid7().hex}"
                new = {"id": batch_id, "project_id": origin.project_id, "job_id": origin.job_id, "provider": provider}
                connection.execute(insert(batches).values(**new, state="collecting", created_at=now, added_at=now))
            else:
                batch_id = batch.id
            flight = hashlib.sha256(f"batch/{provider}/{request_hash}".encode()).hexdigest()
            call_id = self.ledger.intend(connection, origin, provider, model, request_hash, most, batch_id, flight)
            connection.execute(insert(batch_requests).values(call_id=call_id, batch_id=batch_id, body=body))
            more = {"requests": batches.c.requests + 1, "bytes": batches.c.bytes + size, "added_at": now}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**more))
        return call_id

    def _raise_if_known(
        self, connection: Connection, project_id: str, provider: str, request_hash: str, outdated: bool
    ) -> None:
        """In the transaction that adds the request: what was read before it may be out of date by now."""
        equal = (calls.c.project_id == project_id) & (calls.c.request_hash == request_hash)
        on_its_way = select(calls.c.id).where(equal, calls.c.provider == provider, calls.c.state == "intent").limit(1)
        cached = select(answers.c.call_id).where(
            answers.c.project_id == project_id, answers.c.request_hash == request_hash
        )
        if connection.execute(on_its_way).first() or not (outdated or connection.execute(cached).first() is None):
            raise InFlight(request_hash)

    def find(self, project_id: str, step_id: str | None, provider: str, hashes: Sequence[str]) -> BatchedRequest | None:
        """The latest batch of the provider with this request, which has one of the hashes: any step's if it is unanswered, else
        one that this step added it to."""
        query = (
            select(calls, batch_requests.c.answer.label("answer"))
            .join(batch_requests, batch_requests.c.call_id == calls.c.id)
            .where(calls.c.project_id == project_id, calls.c.request_hash.in_(hashes), calls.c.provider == provider)
            .where((calls.c.state == "intent") | (calls.c.step_id == step_id))
            .order_by((calls.c.state == "intent").desc(), calls.c.created_at.desc())
            .limit(1)
        )
        with reading(self.engine) as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            *columns, answer = row
            call = CallRecord(*columns)
            batch = fetch_one(connection, BatchRecord, select(batches).where(batches.c.id == call.batch_id))
        return BatchedRequest(call, batch, call.step_id == step_id, answer)

    def seal(self, quiet_since: float) -> None:
        """Close batches that got no request since then (Unix seconds)."""
        full = (batches.c.state == "collecting") & (batches.c.added_at <= quiet_since)
        with writing(self.engine) as connection:
            connection.execute(update(batches).where(full).values(state="sealed"))

    def due(self) -> list[BatchRecord]:
        """Closed batches that have not ended and whose next check is due, oldest first."""
        waiting = batches.c.state.in_(OPEN[1:]) & (batches.c.not_before <= time.time())
        with reading(self.engine) as connection:
            return fetch_all(connection, BatchRecord, select(batches).where(waiting).order_by(batches.c.created_at))

    def collecting(self) -> list[BatchRecord]:
        with reading(self.engine) as connection:
            return fetch_all(connection, BatchRecord, select(batches).where(batches.c.state == "collecting"))

    def ask(self, batch: BatchRecord) -> bool:
        """Count a try to create it at the provider. False: another gateway has tried since the batch was read, or its state is another."""
        same = (batches.c.id == batch.id) & (batches.c.state == batch.state) & (batches.c.asked == batch.asked)
        with writing(self.engine) as connection:
            return connection.execute(update(batches).where(same).values(asked=batch.asked + 1)).rowcount > 0

    def note(self, batch_id: str, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))

    def requests(self, batch_id: str) -> Iterator[tuple[str, Json]]:
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

    def sent(self, call_id: str) -> Json | None:
        """The body of a request whose batch has not ended."""
        query = select(batch_requests.c.body).where(batch_requests.c.call_id == call_id)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one_or_none()

    def open_calls(self, batch_id: str) -> list[str]:
        """Ids of its unanswered calls."""
        query = select(calls.c.id).where(calls.c.batch_id == batch_id, calls.c.state == "intent")
        with reading(self.engine) as connection:
            return list(connection.execute(query).scalars())

    def answered(self, call_id: str, outcome: str, cost: Cost | None, body: Json, keep: bool) -> None:
        """keep: store it as the answer to every equal request, else for the asking step only."""
        if not keep:
            with writing(self.engine) as connection:
                mine = batch_requests.c.call_id == call_id
                connection.execute(update(batch_requests).where(mine).values(answer=body))
        self.ledger.settle(call_id, outcome, cost, keep=body if keep else None)

    def end(
        self, batch_id: str, outcome: str, error: str | None, *, failed: bool = False, cost: Cost | None = NOTHING
    ) -> None:
        """End a batch: unanswered calls get this outcome and cost, and the requests' texts are removed."""
        for call_id in self.open_calls(batch_id):
            self.ledger.settle(call_id, outcome, cost, error=error)
        with writing(self.engine) as connection:
            connection.execute(update(batch_requests).where(batch_requests.c.batch_id == batch_id).values(body=None))
            answered = select(func.count()).where(calls.c.batch_id == batch_id, calls.c.input_tokens > 0)
            values = {
                "state": "failed" if failed else "ended",
                "error": error and masked(error),
                "ended_at": time.time(),
            }
            values |= {"answered": answered.scalar_subquery()}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))
