"""A job's events in pages, and in the wire's shape."""

import re

from services.api.context import ApiContext
from services.api.features.jobs import service as jobs
from shared.contracts.errors import UserError
from shared.contracts.views import EventObject
from shared.jobs.records import EventRecord

EVENT_ID = re.compile(r"^(?:ftevent-)?(\d{1,15})$")


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


def as_object(row: EventRecord) -> EventObject:
    return EventObject(
        id=f"ftevent-{row.sequence}",
        created_at=int(row.created_at),
        level=row.level,
        message=row.message,
        type="metrics" if row.type == "metrics" else "message",
        event=row.type,
        data=row.data,
    )
