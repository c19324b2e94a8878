"""A job's events: a list, or server-sent events with `Accept: text/event-stream`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Send

from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from services.api.service import events, jobs
from services.api.service.event_hub import EventHub
from shared.contracts.errors import UserError
from shared.contracts.keys import Scope
from shared.contracts.views import EventObject, Listed
from shared.platform.log import get_logger

log = get_logger(__name__)
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
EVENT_STREAM = "text/event-stream"
EVENT = {  # of a stream; `schema` speaks of each event
    "type": "object",
    "required": ["data"],
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {EVENT_STREAM: {"schema": EVENT}}}}


async def event_hub(request: Request) -> EventHub:
    return request.app.state.hub


Hub = Annotated[EventHub, Depends(event_hub)]
router = APIRouter(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.get("/v1/distillation/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
@router.get("/v1/fine_tuning/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
async def list_events(
    context: Context,
    hub: Hub,
    project: Project,
    job_id: Id,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> Any:
    """With `Accept: text/event-stream` all events from the first (or from behind `Last-Event-ID`) and then new ones as they come."""
    if EVENT_STREAM not in accept.lower():
        return listed(*await run_in_threadpool(events.page, context, project, job_id, after, limit))
    await run_in_threadpool(jobs.row, context, project, job_id)
    seen = events.sequence_of(last_event_id) if last_event_id else 0
    if seen is None:
        raise UserError("Last-Event-ID must be the id of an event", param="Last-Event-ID", code="invalid_value")
    hub.refuse_if_full()
    return EventResponse(hub.follow(job_id, seen), context.settings.events_stall_s)


class EventResponse(StreamingResponse):
    """Ends when its reader has taken nothing for `patience_s`: what it has not read it finds again with `Last-Event-ID`."""

    media_type = EVENT_STREAM

    def __init__(self, chunks: AsyncGenerator[bytes, None], patience_s: float):
        super().__init__(chunks, headers=STREAM_HEADERS)
        self.chunks = chunks
        self.patience_s = patience_s

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self.chunks):
            try:
                async for chunk in self.chunks:
                    async with asyncio.timeout(self.patience_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                log.warning("an event stream is ended, its reader takes nothing")
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
