"""Batches of calls for a provider's batch API. Every call has its intent row before anything is sent.

States: collecting (requests are added), sealed (complete), uploaded (the provider has its file), submitted (the provider computes
it), ended (its answers are stored), failed (the provider refused it; nothing was computed).
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from shared.contracts.json_types import Json
from shared.contracts.masking import masked
from shared.db.engine import Values, reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.ledger.accounts import Amount
from shared.ledger.records import BatchRecord, CallRecord
from shared.ledger.store import OPEN_FLIGHT, CallOrigin, Cost, Ledger
from shared.ledger.tables import batch_requests, batches, calls

OPEN = ("collecting", "sealed", "uploaded", "submitted")
PAGE = 200  # rows read at once
NOTHING = Cost()
TAKEN_OUT = "an equal request was sent by itself before the batch was complete"
_EQUAL = select(calls).where(OPEN_FLIGHT, calls.c.batch_id.is_not(None))


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
        passed_over: Sequence[str] = (),
    ) -> str:
        """Add a request to the batch that its job collects for the provider; returns the call's id.

        size: bytes of its line. room: maximum (requests, bytes) of a batch. passed_over: calls whose cached answers do not count.
        Raises BudgetExceeded, RoomHeld, and InFlight where an equal request is on its way or has been answered.
        """

        def add(connection: Connection) -> str:
            batch_id = _collecting(connection, origin, provider, size, room)
            call_id = self.ledger.intend(
                connection, origin, provider, model, request_hash, most,
                batch_id=batch_id, flight=True, passed_over=passed_over,
            )  # fmt: skip
            connection.execute(insert(batch_requests).values(call_id=call_id, batch_id=batch_id, body=body))
            more = {"requests": batches.c.requests + 1, "bytes": batches.c.bytes + size, "added_at": time.time()}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**more))
            return call_id

        return self.ledger.reserving(add)

    def take_out(self, project_id: str, request_hash: str) -> BatchRecord | None:
        """Take a request out of a batch that is still collected, so that it can be sent by itself. Returns the batch that has it where
        that is complete, and may have been sent."""
        with writing(self.engine) as connection:
            about = {"of_project": project_id, "of_flight": request_hash}
            call = fetch_first(connection, CallRecord, _EQUAL, about)
            if call is None:
                return None
            # in the order of `add`: the batch, the call, the accounts
            its_batch = select(batches).where(batches.c.id == call.batch_id).with_for_update()
            batch = fetch_first(connection, BatchRecord, its_batch)
            if batch is None or batch.state not in OPEN:
                return None
            if batch.state != "collecting":
                return batch
            if self.ledger.end_call(connection, call.id, "cancelled", NOTHING, error=TAKEN_OUT) is not None:
                connection.execute(delete(batch_requests).where(batch_requests.c.call_id == call.id))
                _shrink(connection, batch)
        return None

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

    def begin_upload(self, batch: BatchRecord) -> bool:
        """Count a try to upload its file. False: another gateway has tried since the batch was read, or its state is another."""
        return self._change(_as_read(batch) & (batches.c.uploads == batch.uploads), {"uploads": batch.uploads + 1})

    def uploaded(self, batch_id: str, file_id: str) -> bool:
        """Note the provider's file. False: the batch has another one, or has ended, and this file is to be deleted."""
        with writing(self.engine) as connection:
            batch = _locked(connection, batch_id)
            if batch.remote_file == file_id:
                return True
            first = batch.state == "sealed"
            values = {"state": "uploaded", "remote_file": file_id, "error": None}
            if not first:
                values = {"leftover": [*(batch.leftover or ()), file_id]}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))
        return first

    def leftovers(self) -> list[BatchRecord]:
        """Batches of which the provider has files that nobody needs, oldest first."""
        query = select(batches).where(batches.c.leftover.is_not(None)).order_by(batches.c.created_at)
        with reading(self.engine) as connection:
            return fetch_all(connection, BatchRecord, query)

    def cleaned(self, batch: BatchRecord) -> None:
        """What was left of it, as it was read, is gone."""
        with writing(self.engine) as connection:
            now = _locked(connection, batch.id)
            more = [file for file in now.leftover or () if file not in (batch.leftover or ())]
            ended_since = now.ended_at != batch.ended_at
            left = more if more or ended_since else None
            connection.execute(update(batches).where(batches.c.id == batch.id).values(leftover=left))

    def ask(self, batch: BatchRecord, for_s: float) -> bool:
        """Count a try to create it at the provider, and let it rest for so long that the try has ended by then. False: another gateway
        has tried since the batch was read, or its state is another."""
        values = {"asked": batch.asked + 1, "not_before": time.time() + for_s}
        return self._change(_as_read(batch) & (batches.c.asked == batch.asked), values)

    def note(self, batch: BatchRecord, **values: Any) -> bool:
        """False: its state has changed since it was read, by another gateway, and nothing is noted."""
        return self._change(_as_read(batch), values)

    def _change(self, which: ColumnElement[bool], values: Values) -> bool:
        with writing(self.engine) as connection:
            return connection.execute(update(batches).where(which).values(**values)).rowcount > 0

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
        self,
        batch_id: str,
        outcome: str,
        error: str | None,
        *,
        failed: bool = False,
        cost: Cost | None = NOTHING,
        files: Sequence[str] = (),
    ) -> None:
        """End a batch: unanswered calls get this outcome and cost, and the requests' texts are removed. files: the provider's, to be deleted
        with the one that was uploaded: they are the user's data."""
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
            batch = _locked(connection, batch_id)
            there = filter(None, (batch.remote_file, *(batch.leftover or ()), *files))
            values |= {"leftover": list(dict.fromkeys(there))}
            connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))


def _collecting(connection: Connection, origin: CallOrigin, provider: str, size: int, room: tuple[int, int]) -> str:
    """The batch that the job collects for the provider, or a new one where that has no room for a line of this size. The row stays locked."""
    mine = select(batches).where(batches.c.job_id == origin.job_id, batches.c.provider == provider)
    batch = fetch_first(connection, BatchRecord, mine.where(batches.c.state == "collecting").with_for_update())
    if batch is not None:
        if batch.requests < room[0] and batch.bytes + size <= room[1]:
            return batch.id
        connection.execute(update(batches).where(batches.c.id == batch.id).values(state="sealed"))
    batch_id, now = f"batch-{uuid_utils.uuid7().hex}", time.time()
    new = {"id": batch_id, "project_id": origin.project_id, "job_id": origin.job_id, "provider": provider}
    connection.execute(insert(batches).values(**new, state="collecting", created_at=now, added_at=now))
    return batch_id


def _shrink(connection: Connection, batch: BatchRecord) -> None:
    """By one request. A batch without any is removed: there is nothing to send."""
    this = batches.c.id == batch.id
    if batch.requests > 1:
        connection.execute(update(batches).where(this).values(requests=batch.requests - 1))
    else:
        connection.execute(delete(batches).where(this))


def _as_read(batch: BatchRecord) -> ColumnElement[bool]:
    return (batches.c.id == batch.id) & (batches.c.state == batch.state)


def _locked(connection: Connection, batch_id: str) -> BatchRecord:
    return fetch_one(connection, BatchRecord, select(batches).where(batches.c.id == batch_id).with_for_update())
