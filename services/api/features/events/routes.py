"""A job's events: a list, or server-sent events with `Accept: text/event-stream`."""

from typing import Annotated, Any

from fastapi import Header
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Id, Page, needs
from services.api.features.events import service as events
from services.api.features.events.hub import Hub
from services.api.features.jobs import service as jobs
from services.api.responses.event_stream import EVENT_STREAM, STREAM, EventResponse
from services.api.router import Router
from shared.contracts.errors import UserError
from shared.contracts.keys import Scope
from shared.contracts.views import EventObject, Listed

router = Router(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.get("/v1/distillation/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
@router.get("/v1/fine_tuning/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
async def list_events(
    context: Context,
    hub: Hub,
    job_id: Id,
    paging: Page,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> Any:
    """With `Accept: text/event-stream` all events from the first (or after `Last-Event-ID`), and then new ones as they come."""
    if EVENT_STREAM not in accept.lower():
        return await run_in_threadpool(events.page, context, job_id, paging)
    await run_in_threadpool(jobs.lifecycle.record, context, job_id)
    sent = events.sequence_of(last_event_id) if last_event_id else 0
    if sent is None:
        raise UserError("Last-Event-ID must be the id of an event", param="Last-Event-ID", code="invalid_value")
    hub.refuse_if_full()
    return EventResponse(hub.follow(job_id, sent), context.settings.events_stall_s)
