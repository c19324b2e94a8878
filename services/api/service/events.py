"""A job's events: pages for people, and what an open stream is given next."""

import re

from sqlalchemy import Row

from services.api.service import jobs
from services.api.service.context import ApiContext
from shared.contracts.errors import UserError
from shared.contracts.jobs import EventObject
from shared.jobs.states import FINAL_JOBS

EVENT_ID = re.compile(r"^(?:ftevent-)?(\d{1,15})$")
STREAM_PAGE = 200


def sequence_of(event_id: str) -> int | None:
    """ "ftevent-12" or "12" -> 12; None for anything else."""
    match = EVENT_ID.match(event_id)
    return int(match.group(1)) if match else None


def page(
    context: ApiContext, project: str, job_id: str, after: str | None, limit: int
) -> tuple[list[EventObject], bool]:
    """Newest first, as OpenAI lists them. Raises UserError for an `after` that is no event of this job."""
    jobs.row(context, project, job_id)
    last = 0
    if after:
        last = sequence_of(after) or 0
        found = context.stores.jobs.events(job_id, after=last - 1, limit=1) if last else []
        if not found or found[0].sequence != last:
            raise UserError(f"no event {after!r} to continue after", param="after", code="unknown_cursor")
    rows = context.stores.jobs.events(job_id, after=last, limit=limit + 1, newest_first=True)
    return [as_object(row) for row in rows[:limit]], len(rows) > limit


def following(context: ApiContext, job_id: str, after: int) -> tuple[list[EventObject], str | None]:
    """Events after a sequence, oldest first; and the job's status once it has ended and nothing is left to tell."""
    job = context.stores.jobs.get(job_id)  # read before the events: the last event comes with the final status
    rows = context.stores.jobs.events(job_id, after=after, limit=STREAM_PAGE)
    ended = len(rows) < STREAM_PAGE and (job is None or job.status in FINAL_JOBS)
    return [as_object(row) for row in rows], (job.status if job else "deleted") if ended else None


def as_object(row: Row) -> EventObject:
    return EventObject(
        id=f"ftevent-{row.sequence}",
        created_at=int(row.created_at),
        level=row.level,
        message=row.message,
        type="metrics" if row.type == "metrics" else "message",
        event=row.type,
        data=row.data,
    )
