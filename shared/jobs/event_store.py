"""What open event streams read: the newest events of many jobs at once."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Engine, func, or_, select

from shared.db.engine import reading
from shared.jobs.records import EventRecord
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import events, jobs

GONE = "deleted"  # what a stream's end says of a job that is no more


class News(NamedTuple):
    """events: by job, by sequence. ended: the status of each job that has ended and of which nothing is left to tell.
    more: there are events beyond the limit."""

    events: dict[str, list[EventRecord]]
    ended: dict[str, str]
    more: bool


class EventStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def last(self, job_id: str) -> int:
        """The sequence of a job's newest event; 0 where there is none."""
        with reading(self.engine) as connection:
            return (
                connection.execute(select(func.max(events.c.sequence)).where(events.c.job_id == job_id)).scalar() or 0
            )

    def news(self, cursors: Mapping[str, int], limit: int) -> News:
        """cursors: each job's last sequence that was seen. Sequences of different jobs are not committed in their order, so
        one cursor for all of them would miss some."""
        status = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(cursors))
        unseen = or_(*((events.c.job_id == job_id) & (events.c.sequence > seen) for job_id, seen in cursors.items()))
        query = select(events).where(unseen).order_by(events.c.sequence).limit(limit)
        with reading(self.engine) as connection:
            # the statuses before the events: the last event comes with the final status
            statuses = dict(connection.execute(status).tuples().all())
            rows = connection.execute(query).all()
        found: defaultdict[str, list[EventRecord]] = defaultdict(list)
        for row in rows:
            found[row.job_id].append(row)
        more = len(rows) == limit
        now = {job_id: statuses.get(job_id, GONE) for job_id in cursors}
        ended = {} if more else {job_id: s for job_id, s in now.items() if s in FINAL_JOBS or s == GONE}
        return News(dict(found), ended, more)
