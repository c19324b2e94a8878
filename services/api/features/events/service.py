"""A job's events in pages, and in the wire's shape."""

import re

from services.api.context import ProjectContext
from services.api.features.jobs import service as jobs
from services.api.paging import Paging, listed
from shared.contracts.errors import UserError
from shared.contracts.views import EventObject, Listed
from shared.jobs.records import EventRecord

EVENT_ID = re.compile(r"^(?:ftevent-)?(\d{1,15})$")


def sequence_of(event_id: str) -> int | None:
    """ "ftevent-12" or "12" -> 12; None for anything else."""
    match = EVENT_ID.match(event_id)
    return int(match.group(1)) if match else None


def page(context: ProjectContext, job_id: str, paging: Paging) -> Listed[EventObject]:
    """Newest first, as OpenAI lists them. Raises UserError for an `after` that is no event of this job."""
    jobs.lifecycle.record(context, job_id)
    last = 0
    if paging.after:
        last = sequence_of(paging.after) or 0
        events = context.stores.jobs.events(job_id, after=last - 1, limit=1) if last else []
        if not events or events[0].sequence != last:
            raise UserError(f"no event {paging.after!r} to continue after", param="after", code="unknown_cursor")
    rows = context.stores.jobs.events(job_id, after=last, limit=paging.limit + 1, newest_first=True)
    return listed([as_object(row) for row in rows[: paging.limit]], len(rows) > paging.limit)


def as_object(event: EventRecord) -> EventObject:
    return EventObject(
        id=f"ftevent-{event.sequence}",
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type="metrics" if event.type == "metrics" else "message",
        event=event.type,
        data=event.data,
    )
