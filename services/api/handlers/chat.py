"""/v1/chat/completions, /v1/completions and /v1/responses: a proxy that knows our models' names."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.clients import EngineClient
from services.api.handlers.access import Context, Engine, Project, needs
from services.api.handlers.events import EVENT_STREAM, STREAM_HEADERS
from services.api.service import chat, models, streams
from services.api.service.chat import Route
from services.api.service.context import ApiContext
from shared.contracts.chat import Asked, ChatRequest, CompletionRequest, ResponsesRequest
from shared.contracts.errors import MeteorError
from shared.contracts.keys import Scope
from shared.platform.log import get_logger

log = get_logger(__name__)
CLIENT_GONE = 499  # nobody reads it; it shows in metrics

router = APIRouter(tags=["chat"], dependencies=[needs(Scope.CHAT)])


@router.post(chat.CHAT.path, response_model=None)
async def create_chat_completion(
    request: Request, context: Context, project: Project, engine: Engine, body: ChatRequest
) -> Response:
    return await _answered(request, context, project, engine, chat.CHAT, body)


@router.post(chat.COMPLETIONS.path, response_model=None)
async def create_completion(
    request: Request, context: Context, project: Project, engine: Engine, body: CompletionRequest
) -> Response:
    return await _answered(request, context, project, engine, chat.COMPLETIONS, body)


@router.post(chat.RESPONSES.path, response_model=None)
async def create_response(
    request: Request, context: Context, project: Project, engine: Engine, body: ResponsesRequest
) -> Response:
    return await _answered(request, context, project, engine, chat.RESPONSES, body)


async def _answered(
    request: Request, context: ApiContext, project: str, engine: EngineClient, route: Route, body: Asked
) -> Response:
    target = await run_in_threadpool(models.target, context, project, body.model)
    sent = chat.for_engine(route, body, target.engine_name)
    rename = streams.renaming(target.engine_name, target.shown)
    if not body.stream:
        answer = await _unless_client_leaves(request, engine.whole(route.path, sent, target.served_by))
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        return Response(chat.shown(route, answer, sent, rename), media_type="application/json")
    parts = engine.parts(route.path, sent, target.served_by)
    first = await _unless_client_leaves(request, anext(parts, b""))  # errors before it still get their own status
    if first is None:
        await parts.aclose()
        return Response(status_code=CLIENT_GONE)
    return StreamingResponse(_passed_on(first, parts, rename), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


async def _passed_on(first: bytes, parts: AsyncGenerator[bytes, None], rename: streams.Rename) -> AsyncIterator[bytes]:
    try:
        async with contextlib.aclosing(parts):  # closes the engine's side when the client leaves
            async for lines in streams.shown_lines(_after(first, parts), rename):
                yield lines
    except MeteorError as error:
        log.warning("stream broke", error=str(error))
        yield streams.broken(error)


async def _after(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part


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
