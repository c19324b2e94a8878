"""What open event streams read: the newest events of many jobs at once."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Engine, func, or_, select

from shared.db.engine import reading
from shared.db.fetch import fetch_all
from shared.jobs.records import EventRecord
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import events, jobs

GONE = "deleted"  # the status that ends the stream of a removed job


class News(NamedTuple):
    """events: by job, in sequence. ended: the status of each ended job whose last event is among them or was sent before.
    more: there are events beyond the limit."""

    events: dict[str, list[EventRecord]]
    ended: dict[str, str]
    more: bool


class EventStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def last(self, job_id: str) -> int:
        """The sequence of a job's newest event, 0 if it has none."""
        query = select(func.max(events.c.sequence)).where(events.c.job_id == job_id)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar() or 0

    def news(self, cursors: Mapping[str, int], limit: int) -> News:
        """cursors: the last sequence sent of each job. Sequences of different jobs are not committed in order, so a single
        cursor would miss events."""
        status = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(cursors))
        unsent = or_(*((events.c.job_id == job_id) & (events.c.sequence > last) for job_id, last in cursors.items()))
        query = select(events).where(unsent).order_by(events.c.sequence).limit(limit)
        with reading(self.engine) as connection:
            # statuses first: the last event is committed together with the final status
            statuses = dict(connection.execute(status).all())
            newest = fetch_all(connection, EventRecord, query)
        by_job: defaultdict[str, list[EventRecord]] = defaultdict(list)
        for event in newest:
            by_job[event.job_id].append(event)
        more = len(newest) == limit
        now = {job_id: statuses.get(job_id, GONE) for job_id in cursors}
        ended = {} if more else {job_id: s for job_id, s in now.items() if s in FINAL_JOBS or s == GONE}
        return News(dict(by_job), ended, more)
