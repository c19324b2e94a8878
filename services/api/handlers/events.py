"""A job's events: a list, or server-sent events with `Accept: text/event-stream`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from services.api.service import events, jobs
from services.api.service.context import ApiContext
from shared.contracts.errors import UserError
from shared.contracts.jobs import EventObject
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
EVENT_STREAM = "text/event-stream"
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}}

router = APIRouter(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.get("/v1/distillation/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
@router.get("/v1/fine_tuning/jobs/{job_id}/events", response_model=Listed[EventObject], responses=STREAM)
async def list_events(
    context: Context,
    project: Project,
    job_id: Id,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(max_length=64)] = "",
) -> Any:
    """With `Accept: text/event-stream` all events from the first (or from behind `Last-Event-ID`) and then new ones as they come."""
    if EVENT_STREAM not in accept.lower():
        return listed(*await run_in_threadpool(events.page, context, project, job_id, after, limit))
    await run_in_threadpool(jobs.row, context, project, job_id)
    seen = events.sequence_of(last_event_id) if last_event_id else 0
    if seen is None:
        raise UserError("Last-Event-ID must be the id of an event", param="Last-Event-ID", code="invalid_value")
    return StreamingResponse(event_stream(context, job_id, seen), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


async def event_stream(context: ApiContext, job_id: str, seen: int) -> AsyncIterator[str]:
    """All events after sequence `seen`, then new ones as they come; ends with `event: done` when the job has ended."""
    yield "retry: 3000\n\n"
    last_sent = time.monotonic()
    while True:
        found, ended = await run_in_threadpool(events.following, context, job_id, seen)
        for event in found:
            seen = events.sequence_of(event.id) or seen
            yield f"id: {seen}\nevent: {event.event}\ndata: {event.model_dump_json()}\n\n"
        if ended is not None:
            yield f"event: done\ndata: {json.dumps({'status': ended})}\n\n"
            return
        if found:
            last_sent = time.monotonic()
            continue
        if time.monotonic() - last_sent >= context.settings.events_ping_s:
            yield ": ping\n\n"
            last_sent = time.monotonic()
        await asyncio.sleep(context.settings.events_poll_s)
