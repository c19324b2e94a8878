"""How far each job's metrics were sent to its integrations. A claim on a part expires: a part that is not settled by then is sent again."""

import time

from sqlalchemy import Engine, select, update

from shared.contracts.integrations import Sent
from shared.db.engine import reading, writing
from shared.db.fetch import fetch_all
from shared.jobs.records import EventRecord, IntegrationRecord
from shared.jobs.tables import events, integrations
from shared.jobs.tallies import Tally, tally

GIVE_UP_AFTER = 18  # attempts in a row: a day
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 2 * 3600.0


class IntegrationStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def due(self, hold_s: float, limit: int) -> list[IntegrationRecord]:
        """Take those whose turn it is, for hold_s seconds."""
        now = time.time()
        waiting = integrations.c.ended.is_(False) & (integrations.c.next_at <= now)
        keys = select(integrations.c.job_id, integrations.c.type).where(waiting).order_by(integrations.c.next_at)
        with reading(self.engine) as connection:
            rows = connection.execute(keys.limit(limit)).all()
        taken: list[IntegrationRecord] = []
        for job_id, kind in rows:
            mine = waiting & (integrations.c.job_id == job_id) & (integrations.c.type == kind)
            claim = update(integrations).where(mine).values(next_at=now + hold_s).returning(integrations)
            with writing(self.engine) as connection:
                taken += fetch_all(connection, IntegrationRecord, claim)
        return taken

    def events_after(self, job_id: str, sequence: int, limit: int) -> list[EventRecord]:
        query = select(events).where(events.c.job_id == job_id, events.c.sequence > sequence)
        with reading(self.engine) as connection:
            return fetch_all(connection, EventRecord, query.order_by(events.c.sequence).limit(limit))

    def later(self, row: IntegrationRecord, pause_s: float) -> None:
        """There was nothing to send."""
        self._change(row, None, next_at=time.time() + pause_s)

    def sent(self, row: IntegrationRecord, sequence: int, ended: bool, pause_s: float) -> None:
        values = {"sequence": sequence, "failures": 0, "ended": ended, "next_at": time.time() + pause_s}
        self._change(row, Sent.SENT, **values)

    def failed(self, row: IntegrationRecord) -> bool:
        """Try again after a pause that doubles. Returns whether it was the last attempt."""
        failures = row.failures + 1
        last = failures >= GIVE_UP_AFTER
        pause_s = min(FIRST_PAUSE_S * 2**row.failures, LONGEST_PAUSE_S)
        self._change(row, Sent.FAILED, failures=failures, ended=last, next_at=time.time() + pause_s)
        return last

    def _change(self, row: IntegrationRecord, outcome: Sent | None, **values: float) -> None:
        """Unless another process has taken it meanwhile."""
        mine = (
            (integrations.c.job_id == row.job_id)
            & (integrations.c.type == row.type)
            & (integrations.c.next_at == row.next_at)
        )
        with writing(self.engine) as connection:
            if connection.execute(update(integrations).where(mine).values(**values)).rowcount and outcome:
                tally(connection, Tally.INTEGRATION, (row.type, outcome))
