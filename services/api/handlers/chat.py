"""/v1/chat/completions: a proxy that knows our models' names."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.handlers.access import Context, Engine, Project, needs
from services.api.handlers.events import STREAM_HEADERS
from services.api.service import chat, models
from services.api.service.models import Target
from shared.contracts.errors import MeteorError
from shared.contracts.keys import Scope
from shared.platform.log import get_logger

log = get_logger(__name__)
CLIENT_GONE = 499  # nobody reads it; it shows in metrics

router = APIRouter(prefix="/v1/chat", tags=["chat"], dependencies=[needs(Scope.CHAT)])


@router.post("/completions", response_model=None)
async def create_completion(
    request: Request, context: Context, project: Project, engine: Engine, body: Annotated[dict[str, Any], Body()]
) -> Response:
    asked = chat.checked(body)
    target = await run_in_threadpool(models.target, context, project, asked["model"])
    sent = chat.for_engine(asked, target)
    if not asked.get("stream"):
        answer = await _unless_client_leaves(request, engine.chat(sent, target.served_by))
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        return JSONResponse(chat.shown_answer(answer, target, chat.is_structured(asked)))
    lines = engine.chat_lines(sent, target.served_by)
    first = await _unless_client_leaves(request, anext(lines, ""))  # errors before it still get their own status
    if first is None:
        await lines.aclose()
        return Response(status_code=CLIENT_GONE)
    stream = _shown_stream(first, lines, target)
    return StreamingResponse(stream, media_type="text/event-stream", headers=STREAM_HEADERS)


async def _shown_stream(first: str, lines: AsyncGenerator[str, None], target: Target) -> AsyncIterator[str]:
    try:
        async with contextlib.aclosing(lines):  # closes the engine's side when the client leaves
            shown = chat.shown_line(first, target)
            if shown is not None:
                yield shown
            async for line in lines:
                shown = chat.shown_line(line, target)
                if shown is not None:
                    yield shown
    except MeteorError as error:
        log.warning("stream broke", error=str(error))
        yield chat.broken_stream(error)


async def _unless_client_leaves(request: Request, work: Awaitable[Any]) -> Any:
    """The work's result; None, with the work cancelled, when the client closes the connection first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
